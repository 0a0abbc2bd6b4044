"""What runs commands in an instance: an Engine's containers (`docker*.py`), processes of this host (`process*.py`)."""
