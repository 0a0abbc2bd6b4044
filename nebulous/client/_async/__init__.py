"""The client as it is written: asynchronous. `python -m nebulous.client.build` makes `_sync` of it."""
