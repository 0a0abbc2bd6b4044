"""Create a container, follow what it writes, wait for its end, and delete it.

    nebu serve                                # in another terminal
    python examples/06-create-and-wait.py     # in an environment with nebulous; --platform local needs no Docker

The client goes where `nebu` goes: NEBU_SERVER and NEBU_API_KEY, else the current context. The same with `await`:
06-create-and-wait-async.py.
"""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta

import nebulous
from nebulous.errors import NebulousError

LONGEST = timedelta(minutes=10)


def main(name: str | None, platform: str | None) -> int:
    with nebulous.Client() as client:
        container = client.containers.create(
            name=name,
            image="busybox:latest",
            command="for n in 1 2 3; do echo step $n of $NEBU_NAME; sleep 0.2; done; exit 3",
            platform=platform,
            restart="Never",
        )
        print(f"{container} is {container.status.status}")

        with client.containers.logs(container, follow=True) as log:
            for line in log.lines():
                print(f"  {line}")

        container = client.containers.wait(container, limit=LONGEST)
        print(f"{container} is {container.status.status} with exit code {container.status.exit_code}")

        client.containers.delete(container, wait=True, limit=LONGEST)
        print(f"{container} is gone")
        return container.status.exit_code or 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Create a container and wait for its end.")
    parser.add_argument("--name", help="default: made up by the server")
    parser.add_argument("--platform", help="such as docker, local or sim; default: chosen by the server")
    arguments = parser.parse_args()
    try:
        sys.exit(main(arguments.name, arguments.platform))
    except NebulousError as error:  # every failure is one of these, named for what to do next
        sys.exit(f"{error}\n{error.hint or ''}".strip())
