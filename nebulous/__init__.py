"""Nebulous: runs AI containers on whatever accelerator is free, on any cloud."""

__version__ = "0.1.0"
