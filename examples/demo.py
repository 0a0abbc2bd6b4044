"""A two-minute story told by real parts: `make demo`.

Starts a whole Nebulous in a temporary folder, runs containers on the simulated cloud, on this host and, where
Docker answers, on Docker; kills the worker in the middle; shows that nothing was lost; stops and cleans up.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

EXAMPLES = Path(__file__).parent
BOLD, DIM, END = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


HELLO_DOCKER = """\
kind: Container
metadata:
  name: hello-docker
image: {image}
command: echo Hello from $NEBU_NAME in a real container
platform: docker
provision_timeout: 15s
"""


class Demo:
    """One run of the story."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = {
            **os.environ,
            "NEBU_CONFIG": str(folder / "config.yaml"),
            "NEBU_DATA_DIR": str(folder / "server"),
            "NEBU_TEMPORAL_PORT": "0",
            "NEBU_UI_PORT": "0",
            "NEBU_REDIS_PORT": "0",
        }
        for name in ("NEBU_SERVER", "NEBU_API_KEY"):
            self._env.pop(name, None)
        self._serve: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, str] = {}

    def start(self) -> None:
        """Start everything embedded and wait until it answers."""
        file = self.folder / "ready.json"
        log = (self.folder / "serve.log").open("wb")
        command = [sys.executable, "-m", "nebulous", "serve", "--port", "0", "--simulate", "runpod,ec2,gce"]
        self._serve = subprocess.Popen(
            [*command, "--ready-file", str(file)], env=self._env, stdout=log, stderr=log, start_new_session=True
        )
        while not file.exists():
            if self._serve.poll() is not None:
                sys.exit(f"nebu serve ended: {(self.folder / 'serve.log').read_text()}")
            time.sleep(0.05)
        self.ready = json.loads(file.read_text())

    def clean(self) -> None:
        """Delete what an interrupted story left, before its data goes: the containers would outlive it."""
        if self.ready and self._serve and self._serve.poll() is None:
            self.nebu("delete", "containers", "--all", "--yes", quiet=True, check=False)

    def stop(self) -> None:
        """What Ctrl-C does."""
        if self._serve and self._serve.poll() is None:
            self._serve.send_signal(signal.SIGINT)
            self._serve.wait(timeout=20)

    def nebu(self, *words: str, quiet: bool = False, check: bool = True) -> str:
        """Type a command as a user would, and show it with what it printed."""
        if not quiet:
            print(f"\n{BOLD}$ nebu {' '.join(words)}{END}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "nebulous", *words],
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout
        if not quiet:
            print(output.rstrip(), flush=True)
        if check and done.returncode != 0:
            raise RuntimeError(f"nebu {' '.join(words)} ended with {done.returncode}: {output}")
        return done.stdout

    def status(self, name: str) -> dict[str, object]:
        """The status of one container, as the API gives it."""
        return json.loads(self.nebu("get", "containers", name, "-o", "json", quiet=True))["status"]

    def until(self, name: str, *wanted: str, limit_s: float = 60) -> dict[str, object]:
        """Wait until a container is in one of these statuses."""
        end = time.monotonic() + limit_s
        while (status := self.status(name))["status"] not in wanted:
            if time.monotonic() > end:
                raise RuntimeError(f"{name} is {status}, not {wanted}")
            time.sleep(0.1)
        return status

    def worker(self) -> psutil.Process:
        """The worker process."""
        assert self._serve is not None
        for child in psutil.Process(self._serve.pid).children(recursive=True):
            if "nebulous" in (line := child.cmdline()) and "worker" in line:
                return child
        raise RuntimeError("no worker process")

    def docker(self) -> bool:
        """True when Docker answers here."""
        rows = json.loads(self.nebu("get", "platforms", "-o", "json", quiet=True))
        return any(row["platform"] == "docker" and row["usable"] for row in rows["platforms"])


def say(text: str) -> None:
    """One step of the story."""
    print(f"\n{BOLD}── {text}{END}", flush=True)


def tell(demo: Demo) -> None:
    """The story."""
    began = time.monotonic()
    say("Start Temporal, Valkey, the API and a worker, all embedded.")
    demo.start()
    print(f"ready after {time.monotonic() - began:.1f} s: API {demo.ready['api']}, Temporal UI {demo.ready['ui']}")

    say("A container that completes, on this very host.")
    hello = ["create", "container", "--name", "hello", "--platform", "local", "--cmd"]
    demo.nebu(*hello, "echo Hello from $NEBU_NAME on $NEBU_PLATFORM", "--wait")
    demo.nebu("logs", "hello")

    say("One that fails twice and is restarted until it succeeds (simulated cloud).")
    demo.nebu("create", "-f", str(EXAMPLES / "02-fails-and-restarts.yaml"), "--wait")

    say("One whose first offers are sold out: it fails over to the next ones.")
    demo.nebu("create", "-f", str(EXAMPLES / "05-failover.yaml"))
    demo.until("failover", "running", "completed")
    demo.nebu("describe", "failover")

    say("SEED's first example, four A100 on RunPod: simulated here, since there are no credentials.")
    demo.nebu("create", "container", "-f", str(EXAMPLES / "basic.yaml"))

    if demo.docker():
        say("Docker answers here: a real container.")
        tell_docker(demo)

    say("Kill the worker with -9 in the middle of a training; nothing is lost.")
    train = ["create", "container", "--name", "train", "--platform", "local", "--cmd"]
    demo.nebu(*train, "for i in 1 2 3 4; do echo step $i; sleep 1; done; exit 0")
    demo.until("train", "running")
    worker = demo.worker()
    print(f"{DIM}kill -9 {worker.pid}{END}")
    worker.kill()
    status = demo.until("train", "completed", "failed")
    print(f"train {status['status']}, exit code {status['exit_code']}, restarts {status['restarts']}")
    demo.nebu("logs", "train")

    say("All of it:")
    demo.nebu("get", "containers", "-A")
    print(f"\nEvery one of them is a workflow that you can read: {demo.ready['ui']}")

    say("Clean up: delete, and prove that nothing is left.")
    demo.nebu("delete", "containers", "--all", "--yes")
    demo.nebu("get", "containers", "-A")


def tell_docker(demo: Demo) -> None:
    """A container on the Docker Engine, with an image that is there or can be pulled."""
    images = subprocess.run(
        ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True, check=False
    ).stdout.split()
    image = next((name for name in images if "busybox" in name or "alpine" in name), "busybox:latest")
    file = demo.folder / "hello-docker.yaml"
    file.write_text(HELLO_DOCKER.format(image=image))
    demo.nebu("create", "-f", str(file), "--wait", check=False)  # without a network there may be no image to run
    demo.nebu("logs", "hello-docker", check=False)


def main() -> int:
    """Tell the story in a temporary folder and leave nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="nebu-demo-"))
    demo = Demo(folder)
    try:
        tell(demo)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    finally:
        demo.clean()
        demo.stop()
        shutil.rmtree(folder, ignore_errors=True)
    say("Stopped. Now for your own work, type:")
    print("  .venv/bin/nebu serve --simulate runpod,ec2,gce")
    print("  .venv/bin/nebu create container -f examples/01-hello.yaml --wait     # in another terminal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
