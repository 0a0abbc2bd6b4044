"""Who rents instances: `base.py` is the contract, every other file belongs to one platform."""
