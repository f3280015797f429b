"""The way back without the tool: in which order, on disk in time, there for as long as needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builder import change

from remedies.errors import WriteFailed
from remedies.model import Change
from remedies.rules import ours
from remedies.transaction import undofile


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_change_is_put_back_first() -> None:
    text = undofile.script("t", "host", tuple(change(f"sysctl:net.ipv4.{x}", "0") for x in "abc"))
    lines = [line.split()[1] for line in text.splitlines() if line.startswith("put /proc")]
    assert lines == [f"/proc/sys/net/ipv4/{name}" for name in "cba"]


def test_it_is_on_disk_once_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, int]] = []

    def noted(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", noted)
    undofile.write(str(tmp_path), "t", "exit 0\n")
    assert (str(tmp_path / "undo-t.sh"), 7) in synced


def test_nothing_that_stands_there_already_is_written_over(tmp_path: Path) -> None:
    undofile.write(str(tmp_path), "t", "first\n")
    with pytest.raises(FileExistsError):
        undofile.write(str(tmp_path), "t", "second\n")
    assert (tmp_path / "undo-t.sh").read_text() == "first\n"


def test_sweeping_takes_what_is_over_and_nothing_else(tmp_path: Path) -> None:
    for txn in ("stands", "over"):
        undofile.write(str(tmp_path), txn, "")
    for other in ("journal.jsonl", "undo-notes.txt", "lock"):
        (tmp_path / other).touch()
    undofile.sweep(str(tmp_path), {"stands"})
    assert names(tmp_path) == ["journal.jsonl", "lock", "undo-notes.txt", "undo-stands.sh"]


def test_removing_one_that_is_gone_is_done(tmp_path: Path) -> None:
    undofile.remove(str(tmp_path), "t")
    assert names(tmp_path) == []


def of(resource: str, before: str | None) -> Change:
    return Change("f", None, resource, "update", before, None, "", "exact", "low", "")


def rule(line: str) -> str:
    return ours.iptables_chain("mangle/REMEDY-X", "nft", ("INPUT",), (line,))


@pytest.mark.parametrize(
    "change_of",
    [
        of("file:/etc/sysctl.d/remedy.conf", "a\0b"),
        of("file:/etc/sysctl.d/remedy.conf", "\ud800"),
        of("file:/etc/sysctl.d/remedy\n.conf", "a"),
        of("sysctl:net.ipv4.x\ntouch pwned", "1"),
        of("flow:udp/a/1", "x"),
        of("evil\x1b[2J:\nx", "x"),
        of("nft:inet/remedy_x", '{"table": {"family": "inet", "name": "other"}}'),
        of("nft:inet/remedy_x", '{"flush": {"ruleset": null}}'),
        of("nft:inet/remedy_x", "END-OF-REMEDY"),
        of("iptables:mangle/REMEDY-X", rule('-m comment --comment "a\nEND-OF-REMEDY\nb" -j DROP')),
        of("iptables:mangle/REMEDY-X", rule('--comment "a"b" -j DROP')),
    ],
)
def test_what_no_script_can_say_is_refused_by_name(change_of: Change) -> None:
    with pytest.raises(WriteFailed, match="no script could undo it without remedy") as caught:
        undofile.script("t", "host", (change_of,))
    scheme = change_of.resource.partition(":")[0][:4]
    assert str(caught.value).startswith(scheme)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["\nEND-OF-REMEDY\n", "\\u0000", "\x7f\x1b\u202e", "'\"$(id)`id`"])
def test_nft_is_fed_printable_json_alone(text: str) -> None:
    chain = ours.NftChain(text, "filter", "input", 0, ((ours.drop(), ours.comment(text)),))
    state = ours.nft_table("inet/remedy_x", (chain,))
    script = undofile.steps((of("nft:inet/remedy_x", state),))
    assert all(line.isascii() and line.isprintable() for line in script.splitlines())
    assert script.count("END-OF-REMEDY\n") == script.count("\nEND-OF-REMEDY\n") == 1
