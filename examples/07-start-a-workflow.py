"""Start a container from a program that knows nothing but Temporal.

A container is a workflow of type `Container`, and its argument is plain JSON, so any Temporal SDK, or the Start
button of the Temporal UI, can do this too. Whoever reaches Temporal directly is an administrator: prefer the API for
people, and this for programs that you run yourself.

    nebu serve                                  # in another terminal
    python examples/07-start-a-workflow.py      # pip install temporalio
    nebu get containers hello-from-python
    nebu delete hello-from-python

Takes the address of Temporal from TEMPORAL_ADDRESS, else localhost:7233.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError

FINAL = {"completed", "failed", "stopped", "invalid"}
POLL_SECONDS = 0.2


async def main(name: str, platform: str | None) -> int:
    address = os.environ.get("TEMPORAL_ADDRESS", "localhost:7233")
    try:
        client = await Client.connect(address)
    except RuntimeError:
        print(f"no Temporal answers at {address}: start `nebu serve`, or set TEMPORAL_ADDRESS to what it prints")
        return 1
    spec = {"image": "busybox:latest", "command": "echo hello from a workflow", "platform": platform}
    try:
        handle = await client.start_workflow(
            "Container",
            {"spec": spec},
            id=f"container/local/default/{name}",  # kind/organization/namespace/name: this is the container's identity
            task_queue="nebulous",
            static_summary="hello from a program",
        )
    except WorkflowAlreadyStartedError:
        print(f"container {name!r} exists: delete it first (nebu delete {name}), or give another --name")
        return 1

    shown = ""
    while True:
        memo = await (await handle.describe()).memo()
        status = memo.get("status", {})  # empty until a worker has seen it
        word = status.get("status", "starting")
        if word != shown:
            print(word, status.get("message", ""))
            shown = word
        if word in FINAL:
            break
        await asyncio.sleep(POLL_SECONDS)

    print(f"{name}: {word}, exit code {status['exit_code']}")
    return 0 if word == "completed" else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Start a container through Temporal and wait for its end.")
    parser.add_argument("--name", default="hello-from-python")
    parser.add_argument("--platform", help="such as docker, local or sim; default: chosen by the server")
    arguments = parser.parse_args()
    code = asyncio.run(main(arguments.name, arguments.platform))
    sys.stdout.flush()
    os._exit(code)  # a normal exit may crash: the SDK's threads outlive the interpreter (temporalio sdk-python#300)
