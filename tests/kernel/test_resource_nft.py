"""The nft driver on a real kernel: what is written is what is there, and nothing else moves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from run_in import RunIn

from remedies.errors import InputError, Unreadable, WriteFailed
from remedies.fixes.invalid_drop import table
from remedies.namespaces import child
from remedies.namespaces import netns as namespaces
from remedies.namespaces.workers import visit_all
from remedies.netfilter import libnftables
from remedies.resources import nf_tables, nft
from remedies.rules import ours

PATH = "inet/remedy_invalid_drop"
FOREIGN = """table inet mine {
	chain input {
		type filter hook input priority filter; policy accept;
		tcp dport 22 counter packets 0 bytes 0 accept comment "keep"
	}
}
"""


Make = Callable[..., str]


@pytest.fixture(autouse=True)
def _nothing_reaches_the_machines_own_rules() -> Iterator[None]:
    """What a broken test would write outside its namespaces, it writes into one of nobody's."""
    with namespaces.scratch():
        yield


def ruleset(run_in: RunIn, ns: str) -> str:
    return run_in(ns, ["nft", "list", "ruleset"]).stdout


def test_written_read_and_removed(netns: Make, run_in: RunIn) -> None:
    ns = netns()
    run_in(ns, ["nft", "-f", "-"], stdin=FOREIGN)
    before = ruleset(run_in, ns)
    with namespaces.inside(ns):
        assert nft.read(PATH) is None
        nft.check(PATH, table())
        assert nft.read(PATH) is None, "a check changes nothing"
        nft.write(PATH, table())
        assert nft.read(PATH) == table()
        nft.write(PATH, table())
        assert nft.read(PATH) == table(), "a second write changes nothing"
    shown = run_in(ns, ["nft", "-s", "list", "table", "inet", "remedy_invalid_drop"]).stdout
    assert nft.text(PATH, table()) == shown
    assert ruleset(run_in, ns).startswith(before)
    with namespaces.inside(ns):
        nft.write(PATH, None)
        nft.write(PATH, None)
        assert nft.read(PATH) is None
    assert ruleset(run_in, ns) == before


STRANGE = """
table inet remedy_invalid_drop {
	set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }
	map m { type ipv4_addr : verdict; elements = { 10.1.1.1 : jump other }; }
	counter c { }
	chain other { }
	chain input {
		type filter hook input priority 0; policy drop
		ip saddr @s counter name c accept
		ip daddr vmap @m
	}
}
"""


def test_what_somebody_else_has_put_into_the_table_comes_back(netns: Make, run_in: RunIn) -> None:
    ns = netns()
    run_in(ns, ["nft", "-f", "-"], stdin=STRANGE)
    before = ruleset(run_in, ns)
    with namespaces.inside(ns):
        state = nft.read(PATH)
        nft.write(PATH, table())
        assert nft.read(PATH) == table()
        nft.check(PATH, state)
        nft.write(PATH, state)
        assert nft.read(PATH) == state
    assert ruleset(run_in, ns) == before


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that each process adds to which is started for libnftables."""
    started: list[object] = []
    fork = child.fork

    def counted(*given: Any) -> int:
        started.append(given)
        return fork(*given)

    monkeypatch.setattr(child, "fork", counted)
    return started


def test_a_check_takes_one_process(netns: Make, forks: list[object]) -> None:
    with namespaces.inside(netns()):
        nft.check(PATH, table())
    assert len(forks) == 1


def test_a_transaction_takes_one_process(netns: Make, run_in: RunIn, forks: list[object]) -> None:
    ns = netns()
    with namespaces.inside(ns), libnftables.one_process():
        nft.check(PATH, table())
        nft.write(PATH, table())
        assert nft.read(PATH) == table()
        run_in(ns, ["nft", "flush", "chain", "inet", "remedy_invalid_drop", "forward"])
        assert nft.read(PATH) not in (None, table()), "what others do meanwhile is seen"
        nft.write(PATH, table())
        with libnftables.one_process():
            assert nft.read(PATH) == table()
        assert len(forks) == 1
        assert nft.read(PATH) == table()
        with pytest.raises(WriteFailed, match="nft"):
            nft.check(PATH, table().replace('"hook": "forward"', '"hook": "nowhere"'))
        nft.check(PATH, table())
    assert len(forks) == 1


def test_nobody_shares_a_process_in_another_namespace_or_after_a_fork(
    netns: Make, forks: list[object]
) -> None:
    ns, other = netns(), netns()
    with namespaces.inside(ns), libnftables.one_process():
        nft.write(PATH, table())
        with namespaces.inside(other):
            assert nft.read(PATH) is None
            libnftables.run_text("add table inet remedy_invalid_drop")
            assert nft.read(PATH) not in (None, table())
        (done,) = visit_all([lambda: str(nft.read(PATH) == table())], 60.0)
        assert done.text == "True"
        assert nft.read(PATH) == table()
    assert len(forks) == 1 + 2 + 1  # shared, elsewhere, the visit


def test_after_a_crash_the_next_call_has_another_process(
    netns: Make, monkeypatch: pytest.MonkeyPatch, forks: list[object]
) -> None:
    def crash(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with namespaces.inside(netns()), libnftables.one_process():
        with monkeypatch.context() as broken:
            broken.setattr(libnftables, "_context", crash)
            with pytest.raises(WriteFailed, match="crashed here"):
                nft.write(PATH, table())
        nft.write(PATH, table())
        assert nft.read(PATH) == table()
    assert len(forks) == 2


def test_a_check_shows_nobody_a_table(netns: Make) -> None:
    """Whoever looks while the kernel judges a batch sees what is there: nothing."""
    with namespaces.inside(netns()):
        code = (
            "from remedies.resources import nft; from remedies.fixes.invalid_drop import table\n"
            f"for _ in range(150): nft.check({PATH!r}, table())"
        )
        checks = subprocess.Popen([sys.executable, "-c", code])
        looks = 0
        while checks.poll() is None:
            assert not nf_tables.table_exists("inet", "remedy_invalid_drop"), looks
            looks += 1
        assert checks.returncode == 0
        assert looks > 100


def test_every_construct_reads_back_and_renders_as_nft_prints_it(
    netns: Make, run_in: RunIn
) -> None:
    path = "inet/remedy_probe"
    state = ours.nft_table(
        path,
        (
            ours.NftChain(
                "prerouting",
                "filter",
                "prerouting",
                -300,
                (
                    (
                        ours.payload("ip", "daddr", "192.0.2.10"),
                        ours.payload("udp", "dport", 5060),
                        ours.counter(),
                        ours.notrack(),
                        ours.comment("remedy:x"),
                    ),
                    (
                        ours.payload("ip", "saddr", ours.prefix("10.0.0.0", 8), "!="),
                        ours.payload("udp", "sport", ours.port_range(5060, 5070)),
                        ours.notrack(),
                    ),
                    (
                        ours.payload("ip6", "daddr", ours.any_of("2001:db8::1", "2001:db8::2")),
                        ours.payload("udp", "dport", ours.any_of(53, ours.port_range(60, 70))),
                        ours.notrack(),
                    ),
                    (ours.meta("iifname", "docker0"), ours.counter()),
                    (ours.ct_state("invalid", "new"), ours.counter()),
                ),
            ),
            ours.NftChain("output", "filter", "output", -145),
        ),
    )
    ns = netns()
    with namespaces.inside(ns):
        nft.write(path, state)
        assert nft.read(path) == state
    shown = run_in(ns, ["nft", "-s", "list", "table", "inet", "remedy_probe"]).stdout
    assert nft.text(path, state) == shown


def test_the_same_table_in_other_words_is_the_same(netns: Make) -> None:
    twisted = table().replace('"right": "invalid"', '"right": ["invalid"]')
    assert twisted != table()
    with namespaces.inside(netns()):
        assert nft.same(PATH, twisted, table())
        assert not nft.same(PATH, twisted.replace('"drop"', '"accept"'), table())
        assert not nft.same(PATH, None, table())
        assert nft.same(PATH, None, None)
        assert nft.read(PATH) is None, "the comparison left nothing here"


@pytest.mark.parametrize(
    "command",
    [
        ["add", "rule", "inet", "remedy_invalid_drop", "output", "accept"],
        ["flush", "chain", "inet", "remedy_invalid_drop", "forward"],
        ["add", "chain", "inet", "remedy_invalid_drop", "extra"],
        ["add", "set", "inet", "remedy_invalid_drop", "s", "{ type mark; }"],
        ["delete", "table", "inet", "remedy_invalid_drop"],
    ],
)
def test_a_foreign_edit_is_seen_and_put_right(
    netns: Make, run_in: RunIn, command: list[str]
) -> None:
    ns = netns()
    with namespaces.inside(ns):
        nft.write(PATH, table())
        run_in(ns, ["nft", *command])
        assert not nft.same(PATH, nft.read(PATH), table())
        nft.write(PATH, table())
        assert nft.read(PATH) == table()


def test_a_state_that_nft_refuses_changes_nothing(netns: Make) -> None:
    bad = table().replace('"hook": "forward"', '"hook": "nowhere"')
    with namespaces.inside(netns()):
        nft.write(PATH, table())
        with pytest.raises(WriteFailed, match="nft"):
            nft.check(PATH, bad)
        with pytest.raises(WriteFailed, match="nft"):
            nft.write(PATH, bad)
        assert nft.read(PATH) == table()


@pytest.mark.parametrize(
    "state", ['{"table": {"family": "inet", "name": "filter"}}\n', "[]\n", "x\n", '{"a": 1}\n']
)
def test_a_state_of_another_table_is_refused(netns: Make, run_in: RunIn, state: str) -> None:
    ns = netns()
    run_in(ns, ["nft", "-f", "-"], stdin=FOREIGN)
    before = ruleset(run_in, ns)
    with namespaces.inside(ns):
        with pytest.raises(InputError, match="remedy_invalid_drop"):
            nft.write(PATH, state)
        with pytest.raises(InputError, match="not a table of remedy"):
            nft.write("inet/mine", None)
    assert ruleset(run_in, ns) == before


def test_an_absent_table_is_answered_without_libnftables(netns: Make, run_in: RunIn) -> None:
    code = (
        "import sys; from remedies.resources import nft; "
        f"assert nft.read({PATH!r}) is None; "
        "assert not {'nftables', 'json.tool', 'subprocess'} & set(sys.modules), sys.modules"
    )
    run_in(netns(), [sys.executable, "-c", code])


def test_a_table_that_is_switched_off_is_another_state(netns: Make, run_in: RunIn) -> None:
    ns = netns()
    off = ["nft", "add table inet remedy_invalid_drop { flags dormant; }"]
    with namespaces.inside(ns):
        nft.write(PATH, table())
        run_in(ns, off)
        asleep = nft.read(PATH)
        assert asleep is not None
        assert asleep != table()
        assert not nft.same(PATH, asleep, table())
        assert nft.same(PATH, asleep, asleep)
        nft.check(PATH, table())
        nft.write(PATH, table())
        assert nft.read(PATH) == table()
        nft.check(PATH, asleep)
        nft.write(PATH, asleep)
        assert nft.read(PATH) == asleep
    shown = run_in(ns, ["nft", "-s", "list", "table", "inet", "remedy_invalid_drop"]).stdout
    assert "flags dormant" in shown
    assert nft.text(PATH, asleep) == shown


def test_a_crash_of_libnftables_is_an_error_and_what_was_written_can_be_removed(
    netns: Make, run_in: RunIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    ns = netns()
    run_in(ns, ["nft", "-f", "-"], stdin=FOREIGN)
    before = ruleset(run_in, ns)
    with namespaces.inside(ns):
        nft.write(PATH, table())
        written = ruleset(run_in, ns)

        def crash(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        # As 1.0.6 does on sets with elements that nft 1.1.3 made.
        monkeypatch.setattr(libnftables, "_context", crash)
        for judge in (nft.write, nft.check):
            with pytest.raises(WriteFailed, match="crashed here"):
                judge(PATH, table())
        with pytest.raises(Unreadable, match="backend: iptables"):
            nft.read(PATH)
        assert ruleset(run_in, ns) == written
        nft.check(PATH, None)
        nft.write(PATH, None)
        assert nft.read(PATH) is None
    assert ruleset(run_in, ns) == before


def test_a_signal_waits_until_libnftables_is_done(
    netns: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ns, real = netns(), libnftables._context

    def interrupted() -> int:
        """Write, and return how far that came. Has one thread, as the tool: tests have more."""
        parent = os.getpid()

        def interrupt(*given: Any, **more: Any) -> object:
            os.kill(parent, signal.SIGINT)
            return real(*given, **more)

        monkeypatch.setattr(libnftables, "_context", interrupt)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            nft.write(PATH, table())
        except KeyboardInterrupt:
            monkeypatch.undo()
            return 130 if nft.read(PATH) == table() else 1
        return 0

    with namespaces.inside(ns):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(interrupted())
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
