# Made of _async/__init__.py by `make client`; change that file, not this one.
"""The client as it is written: asynchronous. `python -m nebulous.client.build` makes `_sync` of it."""
