"""`nebu cp` against a real `nebu serve`: docker's rules about targets, streams, links that lead away, full disks."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import psutil
import pytest

from tests.served import Server, until

LIMIT_S = 60.0
MTIME = 1_650_000_000
HUGE = 32 * 1024**3  # a file with a hole, so that no disk is filled


@pytest.fixture
def inside(house: Server, tmp_path: Path) -> Path:
    """A folder of this test in the container (on `local` it is one of this host), with a file and a folder in it."""
    (work,) = (house.folder / "server" / "local").glob("*/work")
    folder = work / tmp_path.name
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "f").write_text("their f")
    (folder / "file").write_text("their file")
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "f").write_text("our f")
    (folder / "file").write_text("our file")
    (folder / "file").chmod(0o751)
    os.utime(folder / "file", (MTIME, MTIME))
    return folder


def cp(house: Server, source: Path | str, target: Path | str, *more: str, stdin: bytes = b"", cwd: Path | None = None):
    command = [sys.executable, "-m", "nebulous", "cp", *more, str(source), str(target)]
    env = {**house.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, env=env, input=stdin, capture_output=True, timeout=LIMIT_S, check=False, cwd=cwd)


def well(ended: subprocess.CompletedProcess[bytes]) -> None:
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_a_file_goes_in_and_comes_out_with_its_mode_and_time(house: Server, inside: Path, here: Path) -> None:
    well(cp(house, here / "file", f"foo:{inside}/new"))
    there = (inside / "new").stat()
    assert (oct(there.st_mode & 0o777), there.st_mtime) == (oct(0o751), MTIME)
    well(cp(house, f"foo:{inside}/new", here / "back", "-n", "default"))
    assert (here / "back").read_text() == "our file"
    assert (oct((here / "back").stat().st_mode & 0o777), (here / "back").stat().st_mtime) == (oct(0o751), MTIME)


@pytest.mark.parametrize(
    ("source", "target", "arrives"),
    [
        ("file", "", "file"),
        ("file", "/", "file"),
        ("file", "/other", "other"),
        ("file", "/file", "file"),
        ("data", "", "data/deep/f"),
        ("data", "/new", "new/deep/f"),
        ("data", "/new/", "new/deep/f"),
        ("data/", "/new", "new/deep/f"),
        ("data/.", "/new", "new/deep/f"),
        ("data/.", "", "deep/f"),
        ("data/deep", "/data", "data/deep/f"),
    ],
)
def test_targets_are_read_as_docker_reads_them(
    house: Server, inside: Path, here: Path, source: str, target: str, arrives: str
) -> None:
    text = "file" if source == "file" else "f"
    well(cp(house, f"{here}/{source}", f"foo:{inside}{target}"))
    assert (inside / arrives).read_text() == f"our {text}"
    (inside / arrives).write_text(f"their {text}")
    for path in (here / "fresh", here / "fresh" / "data"):
        path.mkdir()
    (here / "fresh" / "file").write_text("old")
    (inside / "file").write_text("their file")
    (inside / "data" / "deep" / "f").write_text("their f")
    well(cp(house, f"foo:{inside}/{source}", f"{here}/fresh{target}"))
    assert (here / "fresh" / arrives).read_text() == f"their {text}"


def test_relative_paths_begin_where_the_command_does(house: Server, inside: Path, here: Path) -> None:
    well(cp(house, "file", f"foo:{inside.name}/relative", cwd=here))
    assert (inside / "relative").read_text() == "our file"
    well(cp(house, f"foo:{inside.name}/data", ".", cwd=here))
    assert (here / "data" / "deep" / "f").read_text() == "their f"


def test_a_large_folder_goes_both_ways(house: Server, inside: Path, here: Path) -> None:
    content = {f"d{number % 7}/f{number}": os.urandom(number * 300) for number in range(200)}
    for name, data in content.items():
        (here / "big" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "big" / name).write_bytes(data)
    well(cp(house, here / "big", f"foo:{inside}"))
    well(cp(house, f"foo:{inside}/big", here / "again"))
    assert {name: (here / "again" / name).read_bytes() for name in content} == content


def test_a_minus_is_a_tar_stream(house: Server, inside: Path, here: Path) -> None:
    out = cp(house, f"foo:{inside}/data", "-")
    assert out.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(out.stdout)) as tar:
        assert tar.getnames() == ["data", "data/deep", "data/deep/f"]
    (inside / "target").mkdir()
    well(cp(house, "-", f"foo:{inside}/target", stdin=out.stdout))
    assert (inside / "target" / "data" / "deep" / "f").read_text() == "their f"


def test_links_stay_links_and_those_that_lead_away_are_left_out(house: Server, inside: Path, here: Path) -> None:
    (inside / "data" / "inner").symlink_to("deep/f")
    (inside / "data" / "away").symlink_to("/etc/passwd")
    (inside / "data" / "up").symlink_to("../../../../..")
    ended = cp(house, f"foo:{inside}/data", here / "out")
    assert ended.returncode == 1
    assert ended.stderr.count(b"left out, because it would leave the target: ") == 2
    assert os.readlink(here / "out" / "inner") == "deep/f"
    assert sorted(os.listdir(here / "out")) == ["deep", "inner"]


def hostile() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("../escaped")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    return buffer.getvalue()


def test_a_hostile_stream_leaves_no_folder(house: Server, inside: Path) -> None:
    ended = cp(house, "-", f"foo:{inside}/data", stdin=hostile())
    assert ended.returncode == 1
    assert b"left out, because it would leave" in ended.stderr
    assert not (inside / "escaped").exists()


@pytest.mark.parametrize(
    ("source", "target", "code", "said"),
    [
        ("{here}/nothing", "foo:{inside}", 3, "nothing' does not exist"),
        ("foo:{inside}/nothing", "{here}", 3, "nothing': No such file or directory"),
        ("{here}/file", "foo:{inside}/no/such/folder/file", 3, "no/such/folder': No such file or directory"),
        ("foo:{inside}/file", "{here}/no/such/file", 3, "there is no folder"),
        ("{here}/data", "foo:{inside}/file", 1, "cannot copy the folder"),
        ("foo:{inside}/data", "{here}/file", 1, "cannot copy the folder"),
        ("{here}/file", "foo:{inside}/file/", 1, "file/ is no folder"),
        ("{here}/file", "foo:{inside}/new/", 3, "new/ is no folder there"),
        ("foo:{inside}/file", "{here}/new/", 3, "is no folder here"),
        ("{inside}/clash/.", "foo:{inside}", 1, "cannot put a file in the place of the folder 'data'"),
        ("{here}/file", "over:/x", 1, "container 'over' is completed: it has no machine"),
        ("{here}/file", "nope:/x", 3, "container/nope does not exist"),
        ("{here}/file", "{here}/other", 2, "other' is in a container: one of SRC and DST must be NAME:PATH"),
        ("-", "-", 2, "neither '-' nor '-' is in a container"),
        ("foo:/x y", "over:/z", 2, "both in containers: one of SRC and DST must be on this machine"),
        ("foo:/x y", "over:/z", 2, "copy out and in again: nebu cp 'foo:/x y' - | nebu cp - over:FOLDER"),
        ("{here}/pipe", "foo:{inside}", 2, "pipe' is a named pipe: only files, folders and links are copied"),
        ("{here}/pipe", "foo:{inside}", 2, "nebu exec -i foo -- tee PATH < {here}/pipe"),
        ("{here}/socket", "foo:{inside}", 2, "socket' is a socket: only files"),
        ("/dev/zero", "foo:{inside}", 2, "'/dev/zero' is a device: only files"),
        ("foo:{inside}/pipe", "{here}", 2, "pipe is a device, a pipe or a socket: only files"),
        ("foo:/dev/zero", "{here}", 2, "nebu exec foo -- cat /dev/zero"),
        ("foo:", "{here}", 2, "'foo:' has no path"),
        ("secret/x:/y", "{here}", 2, "there are no files in secrets"),
    ],
)
def test_what_cannot_be_copied_is_said_with_its_code(
    house: Server, inside: Path, here: Path, source: str, target: str, code: int, said: str
) -> None:
    (inside / "clash").mkdir()
    (inside / "clash" / "data").write_text("a file where a folder stands")
    for folder in (here, inside):
        os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(here):  # its path may have 107 characters
        bound.bind("socket")
    ended = cp(house, *(text.format(here=here, inside=inside) for text in (source, target)))
    assert (ended.returncode, ended.stdout) == (code, b""), ended
    assert said.format(here=here, inside=inside) in ended.stderr.decode()


@pytest.mark.parametrize("way", ["out", "in"])
def test_ctrl_c_ends_a_copy_and_leaves_nothing_half(house: Server, inside: Path, here: Path, way: str) -> None:
    for folder in (here, inside):
        os.truncate(folder / "file", HUGE)
    ours, theirs = str(here / "file"), f"foo:{inside}/file"
    words, target = ([theirs, f"{here}/new"], here) if way == "out" else ([ours, f"foo:{inside}/new"], inside)
    command = [sys.executable, "-m", "nebulous", "cp", *words]
    env = {**house.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as copying:
        until(lambda: any(draft.stat().st_size for draft in target.glob(".nebu-*")), "the copy has begun")
        copying.send_signal(signal.SIGINT)
        _, said = copying.communicate(timeout=LIMIT_S)
    assert (copying.returncode, b"Traceback" in said) == (130, False), said
    until(lambda: sorted(os.listdir(target)) == ["data", "file"], "nothing is left half")


def test_what_is_no_archive_is_refused(house: Server, inside: Path) -> None:
    ended = cp(house, "-", f"foo:{inside}", stdin=b"no tar at all" * 100)
    assert ended.returncode == 1
    assert b"this is no whole tar archive" in ended.stderr


def test_no_space_there_is_said_and_leaves_no_half_file(house: Server, inside: Path, here: Path) -> None:
    (here / "big").write_bytes(os.urandom(8_000_000))
    worker = psutil.Process(house.marks()["worker"]["pid"])
    before = worker.rlimit(resource.RLIMIT_FSIZE)
    worker.rlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))  # the system says EFBIG as it would say ENOSPC
    try:
        ended = cp(house, here / "big", f"foo:{inside}")
    finally:
        worker.rlimit(resource.RLIMIT_FSIZE, before)
    assert ended.returncode == 1, ended
    assert b"File too large" in ended.stderr
    assert b"free some space there" in ended.stderr
    assert sorted(os.listdir(inside)) == ["data", "file"]


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """What to put before a command, so that the folder `disk` of this test is a disk of 1 MiB for it."""
    (tmp_path / "disk").mkdir()
    own_mounts = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    script = f'mount -t tmpfs -o size=1m none {shlex.quote(str(tmp_path / "disk"))} && exec "$@"'
    return [*own_mounts, "sh", "-c", script, "sh"]


def test_no_space_here_is_said_and_leaves_what_was_whole(
    house: Server, inside: Path, tmp_path: Path, small_disk: list[str]
) -> None:
    (inside / "data" / "a").write_text("fits")
    (inside / "data" / "big").write_bytes(os.urandom(3_000_000))
    disk = tmp_path / "disk"
    nebu = shlex.join([sys.executable, "-m", "nebulous", "cp", f"foo:{inside}/data", str(disk / "out")])
    look = f'{nebu}; echo "code $?"; cd {shlex.quote(str(disk / "out"))} && ls -A && cat a'
    ended = subprocess.run(
        [*small_disk, "sh", "-c", look], env=house.env, capture_output=True, timeout=LIMIT_S, check=False, text=True
    )
    assert ended.stdout == "code 1\na\nfits", ended  # and no half `big`
    assert "No space left on device" in ended.stderr
    assert "this is about the files of this machine" in ended.stderr
    assert "Traceback" not in ended.stderr
