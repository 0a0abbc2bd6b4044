"""Archives: what was packed comes out again, and nothing that a hostile one holds leaves the target."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nebulous import tars

MTIME = 1_600_000_000


def packed(source: Path, name: str) -> io.BytesIO:
    out = io.BytesIO()
    tars.pack(str(source), name, out)
    out.seek(0)
    return out


def entry(name: str, content: bytes | None = b"x", **about: Any) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.mtime, made.mode = MTIME, 0o644
    if content is None:
        made.type, made.mode = tarfile.DIRTYPE, 0o755
    for field, value in about.items():
        setattr(made, field, value)
    made.size = len(content or b"") if made.isreg() else 0
    return made, content or b""


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for made, content in entries:
            tar.addfile(made, io.BytesIO(content))
    out.seek(0)
    return out


def link(name: str, to: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.SYMTYPE, linkname=to)


def hard(name: str, to: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.LNKTYPE, linkname=to)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("theirs")
    return made


def test_a_folder_comes_out_as_it_went_in(tmp_path: Path, target: Path):
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "run").write_bytes(b"#!/bin/sh\n")
    (source / "run").chmod(0o751)
    (source / "deep" / "big").write_bytes(os.urandom(3_000_000))
    (source / "ünï cödé").write_text("name")
    (source / "link").symlink_to("deep/big")
    os.link(source / "run", source / "again")
    os.utime(source / "run", (MTIME, MTIME))
    (source / "deep").chmod(0o500)
    os.utime(source / "deep", (MTIME, MTIME))
    assert tars.unpack(packed(source, "copy"), target) == []
    copy = target / "copy"
    assert (copy / "deep" / "big").read_bytes() == (source / "deep" / "big").read_bytes()
    assert (copy / "ünï cödé").read_text() == "name"
    assert os.readlink(copy / "link") == "deep/big"
    assert (copy / "again").samefile(copy / "run")
    for path, mode in (("run", 0o751), ("deep", 0o500)):
        found = (copy / path).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (mode, MTIME)
    (source / "deep").chmod(0o700)
    (copy / "deep").chmod(0o700)


def test_what_is_packed_names_nobody_of_this_machine(tmp_path: Path):
    (tmp_path / "f").write_text("x")
    with tarfile.open(fileobj=packed(tmp_path / "f", "f")) as tar:
        (found,) = tar.getmembers()
    assert (found.uid, found.gid, found.uname, found.gname) == (0, 0, "", "")


def test_the_first_name_may_be_another_and_hard_links_follow(target: Path):
    rename: Callable[[str], str] = lambda name: "/".join(["new", *name.split("/")[1:]])  # noqa: E731
    tars.unpack(archive(entry("old", None), entry("old/a", b"A"), hard("old/b", "old/a")), target, rename)
    assert (target / "new" / "a").samefile(target / "new" / "b")


def test_files_are_replaced_and_links_are_not_written_through(target: Path, tmp_path: Path):
    (target / "f").write_text("before")
    (target / "way").symlink_to(tmp_path / "outside" / "secret")
    (target / "inner").symlink_to("f")
    left_out = tars.unpack(archive(entry("f", b"after"), entry("inner", b"new"), entry("way", b"mine")), target)
    assert [text.partition(":")[0] for text in left_out] == ["way"]
    assert (target / "f").read_text() == "after"
    assert (target / "inner").read_text() == "new"
    assert (tmp_path / "outside" / "secret").read_text() == "theirs"


@pytest.mark.parametrize(
    "hostile",
    [
        [entry("../outside/new")],
        [entry("a/../../outside/new")],
        [link("way", "../outside"), entry("way/new")],
        [link("way", "/etc"), entry("way/new")],
        [link("one", "."), link("one/two", "../.."), entry("one/two/outside/new")],
        [hard("stolen", "../outside/secret")],
        [hard("stolen", "/etc/passwd")],
        [link("way", "../outside/secret"), hard("stolen", "way")],
        [entry("pipe", type=tarfile.FIFOTYPE)],
        [entry("disk", type=tarfile.BLKTYPE, devmajor=8)],
    ],
    ids=lambda entries: entries[-1][0].name,
)
def test_what_would_leave_the_target_is_left_out_and_the_rest_is_kept(
    target: Path, tmp_path: Path, hostile: list[tuple[tarfile.TarInfo, bytes]]
):
    left_out = tars.unpack(archive(*hostile, entry("fine")), target)
    assert left_out
    assert (target / "fine").exists()
    assert sorted(path.name for path in (tmp_path / "outside").iterdir()) == ["secret"]
    for path in target.rglob("*"):
        assert not stat.S_ISFIFO(path.lstat().st_mode)
        assert not stat.S_ISBLK(path.lstat().st_mode)
        assert path.is_symlink() or path.resolve().is_relative_to(target.resolve())
        assert not (path.is_symlink() and path.is_file() and path.read_text() == "theirs")


def test_a_chain_of_links_longer_than_a_path_may_be_leads_nowhere(target: Path, tmp_path: Path):
    """How `realpath`, and with it Python's own data filter, was led out in 2025 (CVE-2025-4517)."""
    part = "d" * 247
    entries, path = [], ""
    for letter in "abcdefghijklmnop":
        entries += [entry(f"{path}{part}", None), link(f"{path}{letter}", part)]
        path += f"{letter}/"
    way = f"{path}{'l' * 254}"
    entries += [link(way, "../" * 16), link("escape", f"{way}/../outside"), entry("escape/new", b"theirs now")]
    with contextlib.suppress(tars.Misfit):  # refused as a whole, or left out: either is well
        tars.unpack(archive(*entries), target)
    assert sorted(found.name for found in (tmp_path / "outside").iterdir()) == ["secret"]
    assert not (tmp_path / "new").exists()


def test_a_link_that_stood_there_before_is_followed_within_the_target_only(target: Path, tmp_path: Path):
    (target / "releases").mkdir()
    (target / "current").symlink_to("releases")
    (target / "away").symlink_to(tmp_path / "outside")
    left_out = tars.unpack(archive(entry("current/f"), entry("away/f")), target)
    assert (target / "releases" / "f").exists()
    assert len(left_out) == 1
    assert left_out[0].startswith("away/f: ")


def test_no_special_permission_is_kept(target: Path):
    tars.unpack(archive(entry("f", mode=0o6755)), target)
    assert stat.S_IMODE((target / "f").stat().st_mode) == 0o755


@pytest.mark.parametrize(("there", "arrives"), [("folder", entry("x")), ("file", entry("x", None))])
def test_a_folder_and_a_file_do_not_replace_each_other(target: Path, there: str, arrives: Any):
    (target / "x").mkdir() if there == "folder" else (target / "x").write_text("before")
    with pytest.raises(tars.Misfit, match="in the place of"):
        tars.unpack(archive(arrives), target)
    assert (target / "x").is_dir() == (there == "folder")


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100, archive(entry("f", b"x" * 5000)).read()[:2000]])
def test_what_is_no_archive_or_half_of_one_is_a_misfit_and_leaves_no_half_file(target: Path, content: bytes):
    with pytest.raises(tars.Misfit, match="no whole tar archive"):
        tars.unpack(io.BytesIO(content), target)
    assert list(target.iterdir()) == []


def test_a_pipe_or_a_device_is_not_replaced(target: Path):
    os.mkfifo(target / "pipe")
    with pytest.raises(tars.Misfit, match="'pipe' is a device, a pipe or a socket"):
        tars.unpack(archive(entry("pipe")), str(target))
    assert stat.S_ISFIFO((target / "pipe").lstat().st_mode)
    assert [each.name for each in target.iterdir()] == ["pipe"]
