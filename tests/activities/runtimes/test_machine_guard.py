"""What a rented machine does by itself: its boot script and its guard, run for real, with short times."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from activities.runtimes import boot, machine_keys
from activities.runtimes.boot import Watch
from tests.docker_engine import without
from tests.doubles.guests import Guest, Guests, why_not

pytestmark = pytest.mark.docker

SECRET_KEY = bytes(range(32))
#: Nothing happens in these tests' time unless a test makes it short.
FAR = 1000
PATIENCE_S = 40.0

Boot = Callable[..., Guest]


@pytest.fixture
def guests(docker_host: str, tmp_path: Path) -> Iterator[Guests]:
    if reason := why_not():
        without(reason)
    with Guests(docker_host, tmp_path) as running:
        yield running


@pytest.fixture
def booted(guests: Guests) -> Boot:
    """Boots a machine whose guard looks all the time, and waits until it is ready."""

    def start(**times: Any) -> Guest:
        calm = Watch("", "ec2", lease_s=FAR, keep_s=FAR, idle_s=FAR, quiet_s=0, grace_s=10, tick_s=0.1, look_s=0)
        watch = replace(calm, key=f"nebu-{uuid.uuid4().hex[:12]}", **times)
        guest = guests.boot("box", boot.script(watch, machine_keys.public(SECRET_KEY, watch.key)))
        until(lambda: guest.read("/run/nebulous/stage") == "ready\n", "the machine is ready")
        guest.key = watch.key  # type: ignore[attr-defined]
        return guest

    return start


def until(check: Callable[[], Any], what: str) -> Any:
    limit = time.monotonic() + PATIENCE_S
    while not (answer := check()):
        assert time.monotonic() < limit, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.02)
    return answer


def off(guest: Guest) -> float:
    """Wait until it has switched itself off; when."""
    until(lambda: not guest.alive, "it switches itself off")
    assert guest.powered_off, "it died of something else"
    return time.monotonic()


def run(guest: Guest, image: str, command: str) -> None:
    """Start the machine's command as the worker does: in contact until it runs, however long a busy Engine takes."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(0.2):
            contact(guest)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        started = guest.run(f"docker run -d --init --name {key(guest)} {image} sh -c '{command}'")
        assert started.returncode == 0, started.stderr
        until(lambda: "ready" in logs(guest), "the command runs")
    finally:
        done.set()
        keeper.join()


def key(guest: Guest) -> str:
    return guest.key  # type: ignore[attr-defined]


def logs(guest: Guest) -> str:
    return guest.run(f"docker logs {key(guest)}").stdout


def state(guest: Guest) -> str:
    return guest.run(f"docker inspect -f '{{{{.State.Status}}}} {{{{.State.ExitCode}}}}' {key(guest)}").stdout.strip()


def contact(guest: Guest) -> None:
    (guest.folder / "root" / "run" / "nebulous" / "contact").write_text(f"{uuid.uuid4()}\n")


STAYS = 'trap "echo told; exit 9" TERM; echo ready; while :; do sleep 0.05; done'
STUBBORN = 'trap "echo told" TERM; echo ready; while :; do sleep 0.05; done'


# --- the boot script ------------------------------------------------------------------------------------


def test_it_lets_the_workers_key_in_and_tells_its_own_on_the_console(booted: Boot, tmp_path: Path):
    guest = booted()
    allowed = guest.run("cat ~nebulous/.ssh/authorized_keys").stdout
    assert allowed == f"restrict,port-forwarding {machine_keys.public(SECRET_KEY, key(guest))}\n"
    assert "docker" in guest.run("id -nG nebulous").stdout.split()
    shown = " ".join(guest.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    assert f"nebulous-host-key: {shown}\n" in guest.console()
    private = tmp_path / "private"
    private.write_bytes(machine_keys.private(SECRET_KEY, key(guest)).export_private_key())
    private.chmod(0o600)
    options = ["-F", "none", "-i", str(private), "-o", f"UserKnownHostsFile={tmp_path / 'known'}"]
    command = ["ssh", *options, "-o", "StrictHostKeyChecking=no", f"nebulous@{guest.address}", "docker ps -q && id -un"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.endswith("nebulous\n")


def test_a_second_boot_changes_nothing(booted: Boot):
    guest = booted()
    files = "~nebulous/.ssh/authorized_keys /etc/passwd /etc/group /run/nebulous/guard.pid"
    before = guest.run(f"cat {files}").stdout
    again = guest.run("/var/lib/user-data")
    assert (again.returncode, guest.read("/run/nebulous/stage")) == (0, "ready\n"), again.stderr
    assert guest.run(f"cat {files}").stdout == before
    assert len(guest.run("pgrep -f [/]var/lib/nebulous/guard").stdout.split()) == 1


def test_what_it_runs_is_small_and_the_same_whenever_it_is_made():
    watch = Watch("nebu-k", "gce", timeout_s=60)
    script = boot.script(watch, machine_keys.public(SECRET_KEY, "nebu-k"))
    assert script == boot.script(watch, machine_keys.public(SECRET_KEY, "nebu-k"))
    assert len(script) < boot.LARGEST - 4000, "clouds' own lines need room, too"
    assert script.startswith("#!/bin/sh\n")


def test_a_key_pair_is_of_one_rental_of_one_install():
    pairs = {machine_keys.public(secret, key) for secret in (SECRET_KEY, bytes(32)) for key in ("a", "b")}
    assert len(pairs) == 4
    assert machine_keys.public(SECRET_KEY, "a", b"pods\0") not in pairs
    private = machine_keys.private(SECRET_KEY, "a").export_public_key().decode()
    assert private.split()[:2] == machine_keys.public(SECRET_KEY, "a").split()[:2]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed; `make check` says so, too")
def test_the_scripts_have_no_fault_that_shellcheck_knows(tmp_path: Path):
    whole = tmp_path / "user-data"
    whole.write_text(boot.script(Watch("nebu-k", "ec2"), "ssh-ed25519 AAAA nebulous"))
    for script in (whole, boot.FOLDER / "guard.sh"):
        checked = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


# --- nobody in contact ----------------------------------------------------------------------------------


def test_a_machine_whose_command_never_began_is_given_up(booted: Boot):
    begun = time.monotonic()
    assert off(booted(idle_s=2)) - begun >= 1.5


def test_contact_keeps_it_and_the_end_of_contact_ends_it(booted: Boot):
    guest = booted(idle_s=2)
    for _ in range(8):
        contact(guest)
        time.sleep(0.5)
    assert guest.alive
    off(guest)


def test_a_running_command_goes_on_until_the_lease_is_over_and_ends_gently(booted: Boot, image: str):
    guest = booted(idle_s=FAR, lease_s=4)
    begun = time.monotonic()
    run(guest, image, STAYS)
    until(lambda: "told" in logs(guest) or not guest.alive, "the command is told")
    assert time.monotonic() - begun >= 2
    off(guest)


def test_a_command_with_a_timeout_goes_on_beyond_the_lease_and_its_end_can_be_read(booted: Boot, image: str):
    guest = booted(timeout_s=5, lease_s=1, keep_s=9)
    run(guest, image, STAYS)
    begun = time.monotonic()
    until(lambda: state(guest).startswith("exited"), "the time is over")
    assert time.monotonic() - begun >= 3
    assert state(guest) == "exited 9"
    off(guest)


def test_the_timeout_of_a_command_whose_worker_is_in_contact_is_the_workers_business(booted: Boot, image: str):
    guest = booted(timeout_s=1, quiet_s=6)
    run(guest, image, STAYS)
    for _ in range(8):
        contact(guest)
        time.sleep(0.5)
    assert state(guest) == "running 0"
    until(lambda: state(guest) == "exited 9", "nobody is there to do it")


def test_a_command_that_has_ended_is_kept_for_who_wants_to_read_how(booted: Boot, image: str):
    guest = booted(keep_s=4)
    run(guest, image, "echo ready; exit 3")
    contact(guest)
    begun = time.monotonic()
    assert state(guest) == "exited 3"
    assert off(guest) - begun >= 3


def test_an_engine_that_is_away_for_a_while_is_no_end_of_the_command(booted: Boot, image: str):
    guest = booted(idle_s=10, keep_s=2)
    run(guest, image, STAYS)
    until(lambda: guest.read("/run/nebulous/started"), "the guard has seen it")
    guest.run("mount --bind /dev/null /run/docker.sock")
    assert guest.run("docker ps").returncode != 0
    contact(guest)
    time.sleep(4)
    assert guest.alive


def test_a_machine_whose_engine_hangs_is_given_up_after_timeout_and_keep(booted: Boot, image: str):
    guest = booted(timeout_s=1, keep_s=2, grace_s=1, answer_s=1, quiet_s=6)
    run(guest, image, STAYS)
    until(lambda: guest.read("/run/nebulous/started"), "the guard has seen it")
    hangs = "printf '#!/bin/sh\\nexec sleep 1000\\n' >/usr/local/sbin/docker && chmod +x /usr/local/sbin/docker"
    assert guest.run(hangs).returncode == 0
    off(guest)


def test_after_a_reboot_the_guard_says_again_that_the_machine_is_ready(booted: Boot):
    guest = booted()
    guest.run("kill $(cat /run/nebulous/guard.pid); rm /run/nebulous/stage /run/nebulous/guard.pid")
    guest.run("setsid sh /var/lib/nebulous/guard </dev/null >/dev/null 2>&1 &")
    until(lambda: guest.read("/run/nebulous/stage") == "ready\n", "the guard says so")


# --- notices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ec2", "gce"])
def test_a_notice_ends_the_command_at_once_and_says_which_run(booted: Boot, image: str, kind: str):
    guest = booted(cloud=kind)
    run(guest, image, STAYS)
    started = guest.run(f"docker inspect -f '{{{{.State.StartedAt}}}}' {key(guest)}").stdout
    guest.notice(kind)
    until(lambda: state(guest) == "exited 9", "the command ends")
    assert guest.read("/run/nebulous/preempted") == started
    assert ("TRUE" if kind == "gce" else "terminate") in guest.read("/run/nebulous/notice")
    assert guest.alive


def test_a_command_that_does_not_end_has_at_most_half_of_the_notice(booted: Boot, image: str):
    guest = booted(grace_s=60)
    run(guest, image, STUBBORN)
    begun = time.monotonic()
    guest.notice("ec2", in_s=8)
    until(lambda: state(guest) == "exited 137", "the command is killed")
    assert time.monotonic() - begun < 8
    assert "told" in logs(guest)


def test_a_notice_says_nothing_of_a_command_that_had_ended_by_itself(booted: Boot, image: str):
    guest = booted()
    run(guest, image, "echo ready; exit 3")
    guest.notice()
    until(lambda: guest.read("/run/nebulous/notice"), "the notice is seen")
    assert (guest.read("/run/nebulous/preempted"), state(guest)) == ("", "exited 3")
