"""The log of words about hosts, and the exit code that they make together."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.errors import InputError
from remedies.fleet import host_state
from remedies.fleet.host_state import HostStanding
from remedies.outcomes import WORST_FIRST


@given(st.lists(st.sampled_from([*WORST_FIRST, 64, 127, 130])))
def test_the_worst_exit_code_wins(codes: list[int]) -> None:
    found = host_state.worst(codes)
    known = [code if code in WORST_FIRST else 1 for code in codes]
    assert found == min(known, key=WORST_FIRST.index, default=0)


def test_the_order_is_the_documented_one() -> None:
    assert WORST_FIRST == (4, 70, 3, 7, 1, 9, 77, 78, 65, 6, 5, 8, 2, 0)


def test_what_there_is_to_undo_is_what_a_host_has_in_force() -> None:
    standings = [
        HostStanding("a", "confirmed", transaction="t1"),
        HostStanding("b", "applied", transaction="t2"),
        HostStanding("c", "applied"),
        HostStanding("d", "reverted", transaction="t4"),
        HostStanding("e", "needs-human", transaction="t5"),
        HostStanding("f", "untouched"),
    ]
    assert host_state.in_force(standings) == {"a": "t1", "b": "t2"}


def test_the_last_word_counts(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    assert host_state.read(log) == {}
    host_state.append(log, HostStanding("a", "applied", until="2026-01-01T00:00:00Z"))
    host_state.append(log, HostStanding("b", "untouched", 5, "stale\n\x1b[0m"))
    host_state.append(log, HostStanding("a", "confirmed", transaction="t", details={"x": [1]}))
    found = host_state.read(log)
    assert [(s.host, s.state) for s in found.values()] == [("a", "confirmed"), ("b", "untouched")]
    assert found["a"].details == {"x": [1]}
    assert found["a"].time


def test_a_torn_last_line_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "log"
    host_state.append(str(log), HostStanding("a", "confirmed"))
    with log.open("a") as file:
        file.write('{"host":"a","sta')
    assert host_state.read(str(log))["a"].state == "confirmed"


def test_a_log_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"host": 5}\n')
    with pytest.raises(InputError, match="log:1"):
        host_state.read(str(log))


def _write(log: str, name: str) -> None:
    for number in range(50):
        host_state.append(log, HostStanding(name, "confirmed", number, "x" * 300))


def test_many_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(log, f"h{n}")) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {host: word.rc for host, word in host_state.read(log).items()} == {
        f"h{number}": 49 for number in range(4)
    }
    assert len((tmp_path / "log").read_text().splitlines()) == 200
