"""The command `nebu`: parses, calls the client, prints; it decides nothing.

`main.py` the verbs and the way out · one file per verb · `names.py` what NAME arguments mean · `lookup.py`
where they are · `flags.py` and `files.py` what is to be created · `views.py`, `containers.py` and
`tables.py` how rows look · `progress.py` waiting · `screen.py` and `failures.py` how it speaks and ends.
"""
