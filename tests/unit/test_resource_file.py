"""The file driver, on a tree of its own: attributes kept, links refused, nothing half written."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remedies.errors import InputError, NotPermitted, Unreadable, WriteFailed
from remedies.resources import file
from remedies.transaction.host import HostResources

PATH = "/etc/sysctl.d/99-zz-remedy-x.conf"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(file, "ROOT", str(tmp_path))
    folder = tmp_path / "etc/sysctl.d"
    folder.mkdir(parents=True)
    return folder


def test_written_read_and_removed(folder: Path) -> None:
    assert file.read(PATH) is None
    file.check(PATH, "a = 1\n")
    assert list(folder.iterdir()) == []
    old = os.umask(0o077)
    try:
        file.write(PATH, "a = 1\n")
    finally:
        os.umask(old)
    assert file.read(PATH) == "a = 1\n"
    assert stat.S_IMODE((folder / "99-zz-remedy-x.conf").stat().st_mode) == 0o644
    file.write(PATH, None)
    file.write(PATH, None)
    assert file.read(PATH) is None
    assert list(folder.iterdir()) == []


def test_a_transaction_reaches_it_by_its_address(folder: Path) -> None:
    store, address = HostResources(), f"file:{PATH}"
    store.check(address, "a = 1\n")
    assert store.read(address) is None
    store.write(address, "a = 1\n")
    assert (folder / "99-zz-remedy-x.conf").read_text() == store.read(address) == "a = 1\n"
    assert store.text(address, "a = 1\n") == "a = 1\n"
    assert store.text(address, None) == ""
    assert store.same(address, "a = 1\n", "a = 1\n")
    assert not store.same(address, "a = 1\n", None)


@given(st.text(st.characters(codec="utf-8")))
@settings(max_examples=30)
def test_any_text_comes_back(folder: Path, content: str) -> None:
    file.write(PATH, content)
    assert file.read(PATH) == content
    assert file.same(PATH, content, file.read(PATH))


def test_mode_owner_and_attributes_stay(folder: Path) -> None:
    target = folder / "99-zz-remedy-x.conf"
    target.write_text("old\n")
    target.chmod(0o600)
    os.setxattr(target, "user.note", b"kept")
    inode = target.stat().st_ino
    file.write(PATH, "new\n")
    assert target.read_text() == "new\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.getxattr(target, "user.note") == b"kept"
    assert target.stat().st_ino != inode, "a new file took its place"


def test_a_symbolic_link_is_refused(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs\n")
    (folder / "99-zz-remedy-x.conf").symlink_to(victim)
    with pytest.raises(Unreadable, match="not a regular file"):
        file.read(PATH)
    for act in (file.check, file.write):
        with pytest.raises(WriteFailed, match="not a regular file"):
            act(PATH, "x\n")
    assert victim.read_text() == "theirs\n"


def test_a_hard_link_is_refused(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs\n")
    os.link(victim, folder / "99-zz-remedy-x.conf")
    with pytest.raises(Unreadable, match="hard links"):
        file.read(PATH)
    for state in ("x\n", None):
        with pytest.raises(WriteFailed, match="hard links"):
            file.write(PATH, state)
    assert victim.read_text() == "theirs\n"


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "etc/modules-load.d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteFailed):
        file.write("/etc/modules-load.d/remedy-x.conf", "x\n")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_fifo_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "99-zz-remedy-x.conf")
    with pytest.raises(Unreadable, match="not a regular file"):
        file.read(PATH)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/sysctl.d/99-other.conf",
        "/etc/sysctl.d/../remedy",
        "/etc/sysctl.d/sub/remedy",
        "/etc/remedy.conf",
        "etc/sysctl.d/remedy",
        "/etc/sysctl.d/.remedy",
        "/etc/sysctl.d/remedy\0",
    ],
)
def test_no_other_file_is_ours(folder: Path, path: str) -> None:
    with pytest.raises(InputError, match="not a file of remedy"):
        file.read(path)
    with pytest.raises(InputError, match="not a file of remedy"):
        file.write(path, "x")


def test_a_missing_folder_is_absent_and_cannot_be_written(folder: Path) -> None:
    path = "/etc/modules-load.d/remedy-x.conf"
    assert file.read(path) is None
    file.write(path, None)
    for act in (file.check, file.write):
        with pytest.raises(WriteFailed, match=r"there is no /etc/modules-load\.d"):
            act(path, "x\n")


@pytest.mark.parametrize("call", ["rename", "fsync", "fchmod"])
def test_a_write_that_fails_leaves_the_old_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file.write(PATH, "old\n")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (folder / "99-zz-remedy-y.conf").write_text("")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(WriteFailed, match="No space left"):
            file.write(PATH, "new\n")
    assert file.read(PATH) == "old\n"
    file.write(PATH, "new\n")
    assert sorted(p.name for p in folder.iterdir()) == [
        "99-zz-remedy-x.conf",
        "99-zz-remedy-y.conf",
    ]


def test_a_read_only_file_system_is_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(NotPermitted, match="not permitted"):
        file.check(PATH, "x\n")


def test_what_is_no_text_or_too_long_is_unreadable(folder: Path) -> None:
    target = folder / "99-zz-remedy-x.conf"
    target.write_bytes(b"\xff")
    with pytest.raises(Unreadable, match="not UTF-8"):
        file.read(PATH)
    target.write_bytes(b"x" * (file.LIMIT + 1))
    with pytest.raises(Unreadable, match="longer than"):
        file.read(PATH)


BOOT = "/etc/remedy/boot/x.nft"


def test_our_own_folders_are_made_and_removed_with_the_last_file(folder: Path) -> None:
    etc = folder.parent
    file.check(BOOT, "a\n")
    assert not (etc / "remedy").exists()
    old = os.umask(0o077)
    try:
        file.write(BOOT, "a\n")
    finally:
        os.umask(old)
    assert stat.S_IMODE((etc / "remedy/boot").stat().st_mode) == 0o755
    file.write("/etc/remedy/boot/y.nft", "b\n")
    file.write(BOOT, None)
    assert file.read("/etc/remedy/boot/y.nft") == "b\n"
    (etc / "remedy/remedy.conf").write_text("")
    file.write("/etc/remedy/boot/y.nft", None)
    assert [p.name for p in (etc / "remedy").iterdir()] == ["remedy.conf"]
    (etc / "remedy/remedy.conf").unlink()
    file.write(BOOT, "a\n")
    file.write(BOOT, None)
    assert not (etc / "remedy").exists()
    file.write(BOOT, None)


def test_a_folder_of_somebody_elses_is_never_made(folder: Path) -> None:
    wants = "/etc/systemd/system/multi-user.target.d/remedy-x.conf"
    for call in (file.check, file.write):
        with pytest.raises(WriteFailed, match="there is no /etc/systemd/system"):
            call(wants, "a\n")
    (folder.parent / "systemd/system").mkdir(parents=True)
    file.write(wants, "a\n")
    file.write(wants, None)
    assert list((folder.parent / "systemd/system").iterdir()) == []


def test_a_link_in_the_way_to_our_own_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder.parent / "remedy").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteFailed):
        file.write(BOOT, "a\n")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_others_write_is_refused(folder: Path) -> None:
    folder.chmod(0o777)
    for call in (file.check, file.write):
        with pytest.raises(WriteFailed, match="can be written by others"):
            call(PATH, "a = 1\n")
    assert list(folder.iterdir()) == []
