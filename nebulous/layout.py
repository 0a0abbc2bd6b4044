"""Where the control plane's packages are: beside `nebulous` in a checkout, inside it in a wheel.

A wheel carries `activities`, `api`, `worker` and `workflows` in `nebulous/_server`, so that installing Nebulous
never puts packages with such common names into anybody's site-packages.
"""

import sys
from pathlib import Path

SERVER_PACKAGES = Path(__file__).parent / "_server"


def use_server_packages() -> None:
    """Make the control plane's packages importable; in a checkout they are already, and nothing happens.

    First on the path, because a package of the same name elsewhere must not stand in for ours.
    """
    folder = str(SERVER_PACKAGES)
    if SERVER_PACKAGES.is_dir() and folder not in sys.path:
        sys.path.insert(0, folder)
