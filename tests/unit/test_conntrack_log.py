"""Having conntrack say why it calls packets INVALID: for a while, and at nobody's expense."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from fake_operations import FakeHost, fake_host
from fake_store import YES, FakeStore

from remedies.errors import RemedyError
from remedies.netfilter.packet_log import LOGGER
from remedies.operations import conntrack_log, session
from remedies.operations.conntrack_log import EVERYTHING, LOGGERS, NOBODY, OFF, SAYS

QUIET = {SAYS: OFF, **dict.fromkeys(LOGGERS, NOBODY)}
HEARD = {SAYS: EVERYTHING, **dict.fromkeys(LOGGERS, LOGGER)}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setattr(conntrack_log, "PacketLog", lambda: contextlib.nullcontext("the log"))
    made = fake_host(tmp_path, monkeypatch)
    made.store.states = dict(QUIET)
    return made


def said(host: FakeHost) -> list[dict[str, object]]:
    """Return what is set while it is heard; everything is as it was after that, whatever comes."""
    seen: list[dict[str, object]] = []

    def work(_: object) -> int:
        seen.append(dict(host.store.states))
        return 7

    before = dict(host.store.states)
    try:
        assert conntrack_log.while_said(session.reread(host.session), YES, 1.0, 1.0, work) == 7
    finally:
        assert host.store.states == before
    return seen


@pytest.mark.parametrize("before", [QUIET, {**QUIET, SAYS: "6"}, {**HEARD, SAYS: OFF}, HEARD])
def test_everything_is_said_for_as_long_as_it_is_heard(
    host: FakeHost, before: dict[str, str]
) -> None:
    host.store.states = dict(before)
    assert said(host) == [HEARD]


def test_nothing_is_said_before_somebody_hears_it(host: FakeHost) -> None:
    said(host)
    assert [address for address, _ in host.store.writes[:3]] == [*LOGGERS, SAYS]


def test_what_somebody_else_hears_is_not_taken_from_them(host: FakeHost) -> None:
    host.store.states |= {SAYS: "6", LOGGERS[1]: "nf_log_syslog"}
    with pytest.raises(RemedyError, match="by nf_log_syslog"):
        said(host)
    assert host.store.writes == []


def test_what_cannot_be_set_is_an_error_and_is_not_heard(host: FakeHost) -> None:
    host.store.broken = {SAYS}
    with pytest.raises(RemedyError, match="could not be switched on"):
        said(host)


def test_where_nothing_is_tracked_there_is_nothing_to_say() -> None:
    with pytest.raises(RemedyError, match="conntrack has no nf_conntrack_log_invalid here"):
        list(conntrack_log._changes(FakeStore()))
