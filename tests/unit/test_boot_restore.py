"""The boot files of a fix: what they load, in what order, and that each fix has its own."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from types import ModuleType

import pytest
from fake_store import FakeStore

from remedies import catalogue
from remedies.boot import units
from remedies.cli import leftover
from remedies.errors import InputError
from remedies.facts import Facts
from remedies.fixes import invalid_drop
from remedies.model import Finding, Host, Policy, RequiredFix, Rule, Scan, Wanted
from remedies.planning import plan
from remedies.resources import file
from remedies.rules import ours

TABLE = Wanted(f"nft:{invalid_drop.TABLE}", invalid_drop.table())


def chain(variant: str) -> str:
    return ours.iptables_chain(
        "mangle/REMEDY-INVALID", variant, ("INPUT", "FORWARD"), ("-p tcp -j DROP",)
    )


def by_path(wanted: tuple[Wanted, ...]) -> dict[str, str]:
    assert all(w.boot and w.resource.startswith("file:") and w.state for w in wanted)
    return {w.resource[5:]: str(w.state) for w in wanted}


def test_a_table_is_replaced_whole_whether_it_is_there_or_not() -> None:
    batch = by_path(units.boot_files("x", (TABLE,)))["/etc/remedy/boot/x.json"]
    commands = json.loads(batch)["nftables"]
    table = {"table": {"family": "inet", "name": "remedy_invalid_drop"}}
    assert commands[1:4] == [{"add": table}, {"delete": table}, {"add": table}]
    assert [json.dumps(c["add"], sort_keys=True) for c in commands[3:]] == (
        invalid_drop.table().splitlines()
    )
    assert all(line.isascii() and line.isprintable() for line in batch.splitlines())


def test_the_unit_runs_after_what_empties_rulesets_and_the_boot_wants_it() -> None:
    files = by_path(units.boot_files("x", (TABLE,)))
    unit = files["/etc/systemd/system/remedy-restore@x.service"]
    after = next(line for line in unit.splitlines() if line.startswith("After="))
    for firewall in (*units.FIREWALLS, "systemd-sysctl.service"):
        assert firewall in after.split("=")[1].split()
    assert "ExecStart=/usr/sbin/nft -j -f /etc/remedy/boot/x.json" in unit.splitlines()
    assert "python" not in unit
    assert "Before=" not in unit, "it could close a circle with somebody's firewall"
    wants = files["/etc/systemd/system/multi-user.target.d/remedy-x.conf"]
    assert wants.splitlines()[1:] == ["[Unit]", "Wants=remedy-restore@x.service"]


def test_it_follows_every_firewall_but_the_one_that_stops_the_others() -> None:
    """PartOf= firewalld and what it has in Conflicts= would make its restart impossible."""
    lines = by_path(units.boot_files("x", (TABLE,)))[
        "/etc/systemd/system/remedy-restore@x.service"
    ].splitlines()
    for key in ("PartOf", "ReloadPropagatedFrom"):
        (line,) = (line for line in lines if line.startswith(f"{key}="))
        assert set(line.partition("=")[2].split()) == {*units.FIREWALLS} - {"firewalld.service"}
    assert "ConditionPathExists=/etc/remedy/boot/x.json" in lines


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_jumps_are_removed_before_the_chain_is_restored(variant: str) -> None:
    chains = (
        Wanted("iptables:mangle/REMEDY-INVALID", chain(variant)),
        Wanted("ip6tables:mangle/REMEDY-INVALID", chain(variant)),
    )
    files = by_path(units.boot_files("x", chains))
    assert files["/etc/remedy/boot/x.ipv4"].splitlines()[1:] == [
        "*mangle",
        ":REMEDY-INVALID - [0:0]",
        "-A REMEDY-INVALID -p tcp -j DROP",
        "-I FORWARD -j REMEDY-INVALID",
        "-I INPUT -j REMEDY-INVALID",
        "COMMIT",
    ]
    commands = [
        line
        for line in files["/etc/systemd/system/remedy-restore@x.service"].splitlines()
        if line.startswith("ExecStart")
    ]
    assert commands == [
        "ExecStartPre=-/usr/bin/firewall-cmd --state --quiet",
        f"ExecStartPre=-/usr/sbin/iptables-{variant} -w -t mangle -D FORWARD -j REMEDY-INVALID",
        f"ExecStartPre=-/usr/sbin/iptables-{variant} -w -t mangle -D INPUT -j REMEDY-INVALID",
        f"ExecStartPre=-/usr/sbin/ip6tables-{variant} -w -t mangle -D FORWARD -j REMEDY-INVALID",
        f"ExecStartPre=-/usr/sbin/ip6tables-{variant} -w -t mangle -D INPUT -j REMEDY-INVALID",
        f"ExecStart=/usr/sbin/iptables-{variant}-restore -w --noflush /etc/remedy/boot/x.ipv4",
        f"ExecStart=/usr/sbin/ip6tables-{variant}-restore -w --noflush /etc/remedy/boot/x.ipv6",
    ]


def test_no_two_fixes_share_a_file() -> None:
    one, other = (set(by_path(units.boot_files(fix, (TABLE,)))) for fix in ("a", "b"))
    assert not one & other


def test_what_the_driver_does_not_write_is_not_wanted() -> None:
    for path in by_path(units.boot_files("invalid-drop", (TABLE,))):
        assert file.split(path)


def test_what_has_no_rules_needs_no_files() -> None:
    assert units.boot_files("x", (Wanted("sysctl:net.a.b", "1"),)) == ()
    assert units.boot_files("x", (Wanted(f"nft:{invalid_drop.TABLE}", None),)) == ()


def test_what_is_not_ours_is_refused() -> None:
    with pytest.raises(InputError):
        units.boot_files("x", (Wanted("nft:inet/filter", "{}"),))


class Fix(ModuleType):
    """A fix that wants one table."""

    TITLE = RISK = ""
    HARMLESS = True
    PARAMS: Mapping[str, object] = {}

    def guard(self, *_: object) -> None:
        return None

    def desired(self, *_: object) -> tuple[Wanted, ...]:
        return (TABLE,)

    def impact(self, *_: object) -> str:
        return "what it does"


@pytest.mark.parametrize(("persist", "netns"), [(True, "host"), (True, "b-1"), (False, "host")])
def test_a_plan_holds_them_where_policy_persists_on_the_machine_itself(
    monkeypatch: pytest.MonkeyPatch, persist: bool, netns: str
) -> None:
    monkeypatch.setattr(catalogue, "fix", lambda _: Fix("x"))
    host = Host("h", "m", "k", netns, "b")
    policy = Policy(("p",), "d", "nftables", persist, {}, (RequiredFix("x", {}, ""),))
    scan, facts = Scan(host, "t", (), ()), Facts(host, "t", 0.0)
    made = plan.plan(policy, facts, scan, {}, FakeStore())
    assert made.changes[0].resource == TABLE.resource
    lasting = [c.resource for c in made.changes if c.boot]
    assert lasting == [c.resource for c in made.changes[1:]]
    assert len(lasting) == (3 if persist and netns == "host" else 0)
    assert {c.fix for c in made.changes} == {"x"}
    assert {c.impact for c in made.changes if not c.boot} == {"what it does"}
    assert all("boot" in c.impact and "what it does" not in c.impact for c in made.changes[1:])
    told = "\n".join(leftover.lines(argparse.Namespace(typed=(), policy=None), made, ()))
    assert ("systemctl start remedy-restore@x.service" in told) == bool(lasting)


def test_what_cannot_last_is_refused_at_once_and_the_next_fix_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogue, "fix", Fix)
    store = FakeStore()
    store.unchecked = {"file:/etc/remedy/boot/x.json"}
    host = Host("h", "m", "k", "host", "b")
    required = Policy(("p",), "d", "nftables", True, {}, (RequiredFix("x", {}, ""),))
    scan, facts = Scan(host, "t", (), ()), Facts(host, "t", 0.0)
    made = plan.plan(required, facts, scan, {}, store)
    assert made.changes == ()
    (refused,) = made.refused
    assert refused.wanted
    assert refused.reason == (
        "it cannot be made persistent, as the policy asks: "
        "file:/etc/remedy/boot/x.json: the kernel would refuse"
    )
    finding = Finding("cond", "subject", "exposed", "high", "message")
    rule = Rule("fix", "exposed", ("x", "other"))
    choosing = Policy(("p",), "d", "nftables", True, {"cond": rule})
    made = plan.plan(choosing, facts, Scan(host, "t", (finding,), ()), {}, store)
    assert {c.fix for c in made.changes} == {"other"}
    assert [(r.fix, r.wanted) for r in made.refused] == [("x", False)]


@pytest.mark.parametrize("hook", ["%h", "$HOME", "INPUT ; x", "'a b'"])
def test_a_jump_that_a_unit_would_read_otherwise_is_refused(hook: str) -> None:
    state = ours.iptables_chain("mangle/REMEDY-X", "nft", ("INPUT", hook), ("-j DROP",))
    with pytest.raises(InputError, match="a jump that a unit cannot hold"):
        units.boot_files("x", (Wanted("iptables:mangle/REMEDY-X", state),))
