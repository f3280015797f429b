"""What the drop tap keeps of the kernel's types: used for this kernel alone, and never trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remedies.errors import Unreadable
from remedies.tap import drop_types
from remedies.tap.drop_types import NAME, DropTypes


class Btf:
    """Types of a kernel, and how often they were read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> Btf:
        self.reads += 1
        return self

    def numbers(self, _name: str) -> dict[str, int]:
        return {"SKB_CONSUMED": 1, "SKB_DROP_REASON_NOT_SPECIFIED": 2}

    def offset(self, *path: str) -> int:
        return len("".join(path))

    def arguments(self, _tracepoint: str) -> int:
        return 4


@pytest.fixture
def btf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Btf:
    """Give types that count their reading, and a kernel with a build id."""
    notes = tmp_path / "notes"
    notes.write_bytes(b"\4\0\0\0\4\0\0\0\3\0\0\0GNU\0abcd")
    monkeypatch.setattr(drop_types, "NOTES", str(notes))
    found = Btf()
    monkeypatch.setattr(drop_types, "_btf", found)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder to keep them in, which is not there yet."""
    return tmp_path / "state" / "cache"


def test_the_second_run_reads_no_btf(btf: Btf, folder: Path) -> None:
    first = drop_types.drop_types(str(folder))
    assert drop_types.drop_types(str(folder)) == first
    assert btf.reads == 1
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600


def test_without_a_folder_it_is_read_each_time(btf: Btf) -> None:
    assert drop_types.drop_types() == drop_types.drop_types()
    assert btf.reads == 2


def test_another_build_of_the_kernel_is_read_anew(btf: Btf, folder: Path) -> None:
    drop_types.drop_types(str(folder))
    Path(drop_types.NOTES).write_bytes(b"\4\0\0\0\4\0\0\0\3\0\0\0GNU\0efgh")
    drop_types.drop_types(str(folder))
    assert btf.reads == 2


@pytest.mark.parametrize("notes", [None, b"", b"\4\0\0\0\4\0\0\0\3\0\0\0Xen\0abcd"])
def test_a_kernel_without_a_build_id_keeps_nothing(
    btf: Btf, folder: Path, notes: bytes | None
) -> None:
    if notes is None:
        Path(drop_types.NOTES).unlink()
    else:
        Path(drop_types.NOTES).write_bytes(notes)
    drop_types.drop_types(str(folder))
    assert not folder.exists()
    assert btf.reads == 1


def damaged(file: Path) -> None:
    file.write_text(file.read_text()[:-9])


def without_an_offset(file: Path) -> None:
    plain = json.loads(file.read_text())
    del plain["offsets"]["head"]
    file.write_text(json.dumps(plain))


def writable_by_others(file: Path) -> None:
    file.chmod(0o622)


def in_a_folder_of_others(file: Path) -> None:
    file.parent.chmod(0o777)


def a_link(file: Path) -> None:
    file.rename(file.with_name("other"))
    file.symlink_to("other")


@pytest.mark.parametrize(
    "change", [damaged, without_an_offset, writable_by_others, in_a_folder_of_others, a_link]
)
def test_what_cannot_be_trusted_is_read_anew(btf: Btf, folder: Path, change: object) -> None:
    first = drop_types.drop_types(str(folder))
    assert callable(change)
    change(folder / NAME)
    assert drop_types.drop_types(str(folder)) == first
    assert btf.reads == 2


def test_where_nothing_can_be_written_the_trace_goes_on(btf: Btf, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = drop_types.drop_types(str(tmp_path / "file" / "cache"))
    assert isinstance(found, DropTypes)
    assert btf.reads == 1


def test_a_kernel_without_btf_says_so(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(drop_types, "FILE", "/nonexistent/vmlinux")
    with pytest.raises(Unreadable, match="/nonexistent/vmlinux"):
        drop_types.drop_types(str(folder))
