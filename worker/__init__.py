"""The worker process, the embedded engine and `nebu serve`; `build.py` puts everything together."""
