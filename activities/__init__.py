"""The only code that touches the world: one call each, idempotent on a key that the workflow made."""
