"""What crosses wires: one file per kind, plus what the kinds share.

`base.py` strict models and their errors · `resources.py` metadata, status, events · `containers.py` ·
`secrets.py` · `platforms.py` offers, instances, observations · `kinds.py` the registry · `documents.py`
YAML and JSON files · `syntax.py` how YAML is read · `schema.py` JSON schemas.
"""
