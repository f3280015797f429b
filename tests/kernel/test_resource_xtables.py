"""The iptables drivers on a real kernel: both stores, both families, and nobody else's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
from run_in import RunIn

from remedies.errors import InputError, WriteFailed
from remedies.fixes.invalid_drop import LINE
from remedies.namespaces import netns as namespaces
from remedies.resources import ip6tables, iptables, iptables_legacy
from remedies.rules import ours

PATH = "mangle/REMEDY-INVALID"
Make = Callable[..., str]


@pytest.fixture(autouse=True)
def _nothing_reaches_the_machines_own_rules() -> Iterator[None]:
    """What a broken test would write outside its namespaces, it writes into one of nobody's."""
    with namespaces.scratch():
        yield


WORLDS = {
    "empty": "",
    "foreign rules": "*mangle\n:THEIRS - [0:0]\n-A THEIRS -p udp -j MARK --set-mark 7\n"
    "-A INPUT -j THEIRS\n-A FORWARD -p tcp -j ACCEPT\nCOMMIT\n",
    "empty base chain": "*mangle\n-A INPUT -j ACCEPT\n-D INPUT -j ACCEPT\nCOMMIT\n",
    "policy drop": "*mangle\n:FORWARD DROP [0:0]\nCOMMIT\n",
    "other hook": "*mangle\n-A PREROUTING -p tcp -j MARK --set-mark 1\nCOMMIT\n",
    "other table": "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n",
}
EACH = [
    *(("iptables", iptables, world) for world in WORLDS),
    ("ip6tables", ip6tables, "empty"),
    ("ip6tables", ip6tables, "foreign rules"),
]
"""What is there is looked at alike, whichever program's."""


def wanted(variant: str) -> str:
    return ours.iptables_chain(PATH, variant, ("INPUT", "FORWARD"), (LINE,))


def legacy_tables(run_in: RunIn, ns: str, program: str) -> list[str]:
    name = "/proc/net/ip_tables_names" if program == "iptables" else "/proc/net/ip6_tables_names"
    return sorted(run_in(ns, ["cat", name]).stdout.split())


def dump(run_in: RunIn, ns: str) -> str:
    """Everything that is in any store, but for comments, counters and the time."""
    commands = [["nft", "-s", "list", "ruleset"]]
    for program in ("iptables", "ip6tables"):
        commands.append([f"{program}-nft-save"])
        if legacy_tables(run_in, ns, program):
            commands.append([f"{program}-legacy-save"])
    lines: list[str] = []
    for command in commands:
        lines.append(" ".join(command))
        out = run_in(ns, command).stdout
        lines += [line for line in out.splitlines() if not line.startswith("#")]
    return "\n".join(lines)


@pytest.mark.parametrize(("program", "driver", "world"), EACH)
def test_the_nf_tables_store_is_as_before_after_undo(
    netns: Make, run_in: RunIn, world: str, program: str, driver: ModuleType
) -> None:
    ns = netns()
    run_in(ns, [f"{program}-nft-restore", "--noflush"], stdin=WORLDS[world])
    before = dump(run_in, ns)
    state = wanted("nft")
    with namespaces.inside(ns):
        base = driver.read(PATH)
        driver.check(PATH, state)
        assert dump(run_in, ns) == before, "a check changes nothing"
        driver.write(PATH, state)
        assert driver.same(PATH, driver.read(PATH), state)
        once = dump(run_in, ns)
        driver.write(PATH, state)
        assert dump(run_in, ns) == once, "a second write changes nothing"
        driver.write(PATH, base)
        assert driver.read(PATH) == base
        assert dump(run_in, ns) == before
        driver.write(PATH, base)
        assert dump(run_in, ns) == before
    assert not legacy_tables(run_in, ns, program), "no legacy tool ran"


@pytest.mark.parametrize("library", [True, False], ids=["python-iptables", "restore"])
@pytest.mark.parametrize(("program", "driver", "world"), EACH)
def test_the_legacy_store_is_as_before_after_undo(
    netns: Make,
    run_in: RunIn,
    world: str,
    program: str,
    driver: ModuleType,
    library: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if library:
        monkeypatch.setattr(iptables_legacy, "_installed", lambda _: False)
    ns = netns()
    # mangle is loaded first: a table once registered stays, which is why the fix says "lossy"
    run_in(ns, [f"{program}-legacy-restore", "--noflush"], stdin="*mangle\nCOMMIT\n")
    run_in(ns, [f"{program}-legacy-restore", "--noflush"], stdin=WORLDS[world])
    before, tables = dump(run_in, ns), legacy_tables(run_in, ns, program)
    state = wanted("legacy")
    with namespaces.inside(ns):
        base = driver.read(PATH)
        assert base is None
        driver.check(PATH, state)
        driver.write(PATH, state)
        assert driver.same(PATH, driver.read(PATH), state)
        once = dump(run_in, ns)
        driver.write(PATH, state)
        assert dump(run_in, ns) == once, "a second write changes nothing"
        driver.write(PATH, base)
        assert driver.read(PATH) is None
    assert dump(run_in, ns) == before
    assert legacy_tables(run_in, ns, program) == tables, "no other table was registered"


def test_both_ways_of_writing_legacy_print_the_same(
    netns: Make, run_in: RunIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = (
        LINE,
        "-s 10.0.0.0/8 ! -d 192.0.2.0/24 -i eth+ -p udp -m udp --dport 5060:5070 -j CT --notrack",
        "! -i lo -p tcp -m multiport --dports 80,443 -m comment --comment two -j CT --notrack",
        "-p udp -m udp ! --sport 53 -j RETURN",
    )
    path = "raw/REMEDY-PROBE"
    state = ours.iptables_chain(path, "legacy", ("PREROUTING", "OUTPUT"), rules[1:])
    with namespaces.inside(netns()):
        iptables.write(path, state)
        assert iptables.read(path) == state
    monkeypatch.setattr(iptables_legacy, "_installed", lambda _: False)
    with namespaces.inside(netns()):
        iptables.write(path, state)
        assert iptables.read(path) == state


@pytest.mark.parametrize("variant", ours.VARIANTS)
def test_drift_is_seen_and_put_right(netns: Make, run_in: RunIn, variant: str) -> None:
    tool = [f"iptables-{variant}", "-w", "-t", "mangle"]
    state = wanted(variant)
    edits = [
        ["-A", "INPUT", "-j", "REMEDY-INVALID"],
        ["-D", "FORWARD", "-j", "REMEDY-INVALID"],
        ["-I", "OUTPUT", "-p", "tcp", "-j", "REMEDY-INVALID"],
        ["-F", "REMEDY-INVALID"],
        ["-I", "REMEDY-INVALID", "-j", "ACCEPT"],
    ]
    ns = netns()
    with namespaces.inside(ns):
        iptables.write(PATH, state)
        for edit in edits:
            run_in(ns, [*tool, *edit])
            assert not iptables.same(PATH, iptables.read(PATH), state), edit
            iptables.write(PATH, state)
            assert iptables.same(PATH, iptables.read(PATH), state), edit


@pytest.mark.parametrize("variant", ours.VARIANTS)
def test_the_place_of_a_jump_is_no_drift(netns: Make, run_in: RunIn, variant: str) -> None:
    ns = netns()
    with namespaces.inside(ns):
        iptables.write(PATH, wanted(variant))
        tool = [f"iptables-{variant}", "-w", "-t", "mangle"]
        run_in(ns, [*tool, "-I", "INPUT", "-p", "udp", "-j", "ACCEPT"])
        assert iptables.same(PATH, iptables.read(PATH), wanted(variant))


def test_what_others_put_into_chains_we_caused_stays(netns: Make, run_in: RunIn) -> None:
    ns = netns()
    with namespaces.inside(ns):
        base = iptables.read(PATH)
        assert base is None
        iptables.write(PATH, wanted("nft"))
        run_in(ns, ["iptables-nft", "-t", "mangle", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT"])
        iptables.write(PATH, base)
        assert iptables.same(PATH, iptables.read(PATH), base)
    saved = run_in(ns, ["nft", "-s", "list", "table", "ip", "mangle"]).stdout
    assert "udp" in saved
    assert "chain INPUT" in saved
    assert "chain FORWARD" not in saved
    assert "REMEDY" not in saved


def test_our_chain_in_the_wrong_store_moves(netns: Make, run_in: RunIn) -> None:
    ns = netns()
    with namespaces.inside(ns):
        iptables.write(PATH, wanted("legacy"))
        assert not iptables.same(PATH, iptables.read(PATH), wanted("nft"))
        iptables.write(PATH, wanted("nft"))
        assert iptables.same(PATH, iptables.read(PATH), wanted("nft"))
    assert "REMEDY" not in run_in(ns, ["iptables-legacy-save"]).stdout


@pytest.mark.parametrize(("program", "driver", "world"), EACH)
def test_a_change_of_variant_is_undone_to_what_was_before(
    netns: Make, run_in: RunIn, world: str, program: str, driver: ModuleType
) -> None:
    ns = netns()
    run_in(ns, [f"{program}-legacy-restore", "--noflush"], stdin="*mangle\nCOMMIT\n")
    run_in(ns, [f"{program}-nft-restore", "--noflush"], stdin=WORLDS[world])
    before = dump(run_in, ns)
    with namespaces.inside(ns):
        first = driver.read(PATH)
        driver.write(PATH, wanted("legacy"))
        once, second = dump(run_in, ns), driver.read(PATH)
        assert driver.same(PATH, second, wanted("legacy"))
        driver.write(PATH, wanted("nft"))
        driver.write(PATH, second)
        assert dump(run_in, ns) == once
        assert driver.counters(PATH)
        driver.write(PATH, first)
    assert dump(run_in, ns) == before


def test_both_stores_at_once_are_told_apart(netns: Make) -> None:
    both = wanted("nft") + wanted("legacy")
    with namespaces.inside(netns()):
        iptables.write(PATH, both)
        assert iptables.read(PATH) == both
        iptables.write(PATH, None)
        assert iptables.read(PATH) is None


def test_a_rule_written_another_way_is_the_same(netns: Make) -> None:
    loose = LINE.replace("-p tcp", "-p TCP").replace('"remedy:invalid-drop"', "remedy:invalid-drop")
    state = ours.iptables_chain(PATH, "nft", ("INPUT", "FORWARD"), (loose,))
    with namespaces.inside(netns()):
        assert iptables.same(PATH, state, wanted("nft"))
        assert not iptables.same(PATH, state.replace("DROP", "ACCEPT"), wanted("nft"))
        assert iptables.read(PATH) is None


@pytest.mark.parametrize("variant", ours.VARIANTS)
def test_a_state_that_iptables_refuses_changes_nothing(
    netns: Make, run_in: RunIn, variant: str
) -> None:
    bad = wanted(variant).replace("INVALID -m", "NONSENSE -m")
    ns = netns()
    before = dump(run_in, ns)
    with namespaces.inside(ns):
        with pytest.raises(WriteFailed, match="ctstate"):
            iptables.check(PATH, bad)
        assert dump(run_in, ns) == before
        with pytest.raises(WriteFailed, match=r"ctstate|parameter"):
            iptables.write(PATH, bad)
    assert "REMEDY" not in dump(run_in, ns)


@pytest.mark.parametrize("line", ["-A INPUT -j ACCEPT", "-P INPUT DROP", ":THEIRS -", "-F"])
def test_a_state_with_somebody_elses_lines_is_refused(netns: Make, line: str) -> None:
    state = wanted("nft").replace("COMMIT", f"{line}\nCOMMIT")
    with namespaces.inside(netns()):
        for act in (iptables.check, iptables.write):
            with pytest.raises(InputError, match="REMEDY-INVALID"):
                act(PATH, state)
        assert iptables.read(PATH) is None


def test_where_nothing_is_no_legacy_tool_runs(netns: Make, run_in: RunIn) -> None:
    ns = netns()
    with namespaces.inside(ns):
        assert iptables.read(PATH) is None
        iptables.check(PATH, wanted("legacy"))
        iptables.write(PATH, None)
    assert not legacy_tables(run_in, ns, "iptables")


def test_built_in_chains_go_beside_a_chain_of_our_name(netns: Make, run_in: RunIn) -> None:
    """Somebody's chain of our name, without any built-in chain: undo leaves just that."""
    ns = netns()
    run_in(
        ns,
        ["nft", "-f", "-"],
        stdin="table ip mangle {\nchain REMEDY-INVALID { counter drop\n}\n}\n",
    )
    before = dump(run_in, ns)
    with namespaces.inside(ns):
        base = iptables.read(PATH)
        iptables.write(PATH, wanted("nft"))
        assert iptables.same(PATH, iptables.read(PATH), wanted("nft"))
        iptables.write(PATH, base)
        assert iptables.same(PATH, iptables.read(PATH), base)
    assert dump(run_in, ns) == before


@pytest.mark.parametrize("variant", ours.VARIANTS)
@pytest.mark.parametrize("text", ["two\nlines", "END\n-A REMEDY-INVALID -j DROP\nCOMMIT"])
def test_a_comment_that_does_not_parse_back_is_refused(
    netns: Make, run_in: RunIn, variant: str, text: str
) -> None:
    ns, tool = netns(), [f"iptables-{variant}", "-t", "mangle"]
    run_in(ns, [*tool, "-N", "REMEDY-INVALID"])
    comment = ["-m", "comment", "--comment", text]
    run_in(ns, [*tool, "-A", "REMEDY-INVALID", *comment, "-j", "ACCEPT"])
    with namespaces.inside(ns):
        found = iptables.read(PATH)
        assert found is not None
        assert found.count("\n-A REMEDY-INVALID ") == 1
        with pytest.raises(WriteFailed, match="newline"):
            iptables.check(PATH, found)


@pytest.mark.parametrize("variant", ours.VARIANTS)
@pytest.mark.parametrize("text", ['a "b" \\n c', "it's \u2028 \r \x0b two", "{{ x }}; # $(y)"])
def test_any_other_comment_comes_back(netns: Make, run_in: RunIn, variant: str, text: str) -> None:
    ns, tool = netns(), [f"iptables-{variant}", "-t", "mangle"]
    run_in(ns, [*tool, "-N", "REMEDY-INVALID"])
    comment = ["-m", "comment", "--comment", text]
    run_in(ns, [*tool, "-A", "REMEDY-INVALID", *comment, "-j", "ACCEPT"])
    with namespaces.inside(ns):
        found = iptables.read(PATH)
        iptables.check(PATH, found)
        iptables.write(PATH, wanted(variant))
        iptables.write(PATH, found)
        assert iptables.same(PATH, iptables.read(PATH), found)
