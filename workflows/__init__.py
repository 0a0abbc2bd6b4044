"""Deterministic decisions only: one file per kind, plus the sweeps. What touches the world is in `activities`."""
