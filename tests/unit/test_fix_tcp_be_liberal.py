"""tcp-be-liberal: the value now, the boot files where policy persists, and the missing key."""

from __future__ import annotations

import pytest
from builder import facts

from remedies.errors import Unreadable
from remedies.facts.sysctl import Sysctl
from remedies.fixes import tcp_be_liberal
from remedies.model import Terms
from remedies.resources import file, sysctl

KEY = "net.netfilter.nf_conntrack_tcp_be_liberal"


READY = facts(Sysctl(values={KEY: "0"}))


def test_for_now_it_wants_one_value() -> None:
    (wanted,) = tcp_be_liberal.desired(None, READY, Terms(persist=False))
    assert (wanted.resource, wanted.state, wanted.boot) == (f"sysctl:{KEY}", "1", False)


def test_for_boot_it_wants_the_module_before_the_value() -> None:
    _, modules, drop_in = tcp_be_liberal.desired(None, READY, Terms(persist=True))
    assert modules.boot
    assert drop_in.boot
    assert modules.resource == "file:/etc/modules-load.d/remedy-nf_conntrack.conf"
    assert str(modules.state).splitlines()[-1] == "nf_conntrack"
    assert drop_in.resource == "file:/etc/sysctl.d/99-zz-remedy-tcp-be-liberal.conf"
    assert str(drop_in.state).splitlines()[-1] == f"-{KEY} = 1"
    assert drop_in.resource.rpartition("/")[2] > "99-sysctl.conf", "it sorts after the others"


def test_its_resources_are_ones_the_drivers_write() -> None:
    for wanted in tcp_be_liberal.desired(None, READY, Terms(persist=True)):
        scheme, _, path = wanted.resource.partition(":")
        assert sysctl.file_of(path) if scheme == "sysctl" else file.split(path)


def test_a_key_that_is_there_is_not_refused() -> None:
    assert tcp_be_liberal.guard(None, READY, Terms()) is None


def test_a_missing_key_is_refused_with_the_reason() -> None:
    reason = "no such key: its kernel module is not loaded"
    said = tcp_be_liberal.guard(None, facts(Sysctl(missing={KEY: reason})), Terms())
    assert said == f"{KEY}: {reason}"
    assert "was not read" in str(tcp_be_liberal.guard(None, facts(Sysctl()), Terms()))


def test_what_cannot_be_seen_is_not_judged() -> None:
    blind = facts(unknown={"sysctl": "too slow"})
    with pytest.raises(Unreadable, match="too slow"):
        tcp_be_liberal.guard(None, blind, Terms())


def test_the_impact_is_one_line() -> None:
    assert "\n" not in tcp_be_liberal.impact(None, READY, Terms())
