"""Apply, give back and roll back in any order on any foreign ruleset: what a property test does.

It works on this thread's namespace, through the transaction code and the drivers that the command
line uses, with the tools that are on PATH. Nothing but the standard library and the host side is
needed, so that the Pythons of other Debians run it, too.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Optional

from remedies import catalogue
from remedies.errors import RemedyError
from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.facts.sysctl import Sysctl
from remedies.lab.ruleset import difference, normal
from remedies.model import Action, Backend, Change, Finding, Host, Reversibility, Terms, Wanted
from remedies.namespaces import netns
from remedies.outcomes import Kind
from remedies.resources import xtables
from remedies.transaction import built_in, consent, ledger, undo
from remedies.transaction.host import HostResources
from remedies.transaction.journal import Journal, records
from remedies.transaction.ledger import Begin
from remedies.transaction.run import CheckedChange, apply

HOST = Host("h", "m", "6.18", "scratch", "b")
YES = consent.played("root", check=False)
LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
SYSCTLS = (LIBERAL, "net.netfilter.nf_conntrack_tcp_loose", "net.ipv4.ip_forward")
CHAINS = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


@dataclass(frozen=True)
class Foreign:
    """Everything that is there before we come (foreign_rules makes it)."""

    nft: str
    saves: dict[str, str]
    """Program without ``-restore`` to what it loads."""
    liberal: str
    legacy: bool
    """The variant of iptables that our rules go to: a host has one."""


@dataclass(frozen=True)
class Step:
    """``apply`` (a fix), ``give back`` (what policy no longer wants), ``roll back``, ``again``."""

    do: str
    fix: str
    backend: Backend
    number: int
    """Which port, which transaction: whatever there is a choice of."""


def wanted(step: Step, variant: str) -> tuple[Wanted, ...]:
    """Return what the fix itself wants."""
    netfilter = Netfilter(nf_tables=True, iptables=variant)
    known = {"netfilter": netfilter, "sysctl": Sysctl(values={LIBERAL: "0"})}
    params: dict[str, object] = {
        "protocol": ("udp", "tcp")[step.number % 2],
        "ports": [5060 + step.number],
        "addresses": (["192.0.2.1"], ["2001:db8::1"], ["192.0.2.1", "2001:db8::1"])[
            step.number % 3
        ],
    }
    details = {
        "port": str(5060 + step.number),
        "redirect": "docker0/172.17.0.1 eth0/fd00::1",
        "link": f"eth{step.number}",
    }
    finding = Finding("c", "s", "proven", "high", "", details=details)
    made = catalogue.fix(step.fix).desired(
        finding if step.fix in ("udp-redirect", "clamp-mss") else None,
        Facts(host=HOST, time="", window=0, known=known),
        Terms(backend=step.backend, params=params),
    )
    assert isinstance(made, tuple)
    return made


@dataclass
class Tool:
    """The transaction code on this thread's namespace, with a journal of its own."""

    folder: str
    variant: str
    say: Callable[[str], None]
    """Told how each step ended."""
    store: HostResources = field(default_factory=HostResources)

    def begin(self, changes: tuple[Change, ...], kind: Kind, undoes: tuple[str, ...] = ()) -> Begin:
        changes = built_in.before_ours(changes, ledger.in_force(self.ledger()))
        return Begin(kind, changes, "0", "h", "m", "b", "root", "remedy", undoes=undoes)

    def ledger(self) -> dict[str, ledger.Transaction]:
        return ledger.transactions(records(f"{self.folder}/journal.jsonl"))

    def changes(self, step: Step) -> tuple[Change, ...]:
        """Return what a plan would: what differs, and what another finding had added stays."""
        held = ledger.in_force(self.ledger())
        merge = getattr(catalogue.fix(step.fix), "merge", None)
        found = []
        for one in wanted(step, self.variant):
            if merge is not None and one.resource in held:
                one = merge(one, Wanted(one.resource, held[one.resource].ours))
            found.append(self.change(step.fix, one.resource, one.state, one.reversibility))
        return tuple(change for change in found if change is not None)

    def change(
        self, fix: str, address: str, after: Optional[str], how: Reversibility
    ) -> Optional[Change]:
        before = self.store.read(address)
        if self.store.same(address, before, after):
            return None
        absent = self.store.same(address, before, None)
        action: Action = "create" if absent else "remove" if after is None else "update"
        return Change(fix, None, address, action, before, after, "", how, "low", "")

    def apply(self, changes: tuple[Change, ...]) -> str:
        """Return the outcome; ``refused`` where the kernel or the tools would not have it."""
        with Journal(self.folder) as journal:
            try:
                result = apply(
                    self.store, journal, self.begin(changes, "apply"), YES, CheckedChange
                )
            except RemedyError as error:
                self.say(f"refused: {error}")
                return "refused"
        assert not result.stuck, f"{result.reason}: {'; '.join(result.stuck)}"
        return result.outcome

    def give_back(self, number: int) -> str:
        """Remove one resource in force, as a plan does once the policy no longer asks for it."""
        held = list(ledger.in_force(self.ledger()).values())
        if not held:
            return "nothing"
        one = held[number % len(held)]
        change = self.change(one.fix, one.resource, one.base, one.reversibility)
        return "nothing" if change is None else self.apply((change,))

    def roll_back(self, number: int) -> str:
        """Roll back one transaction that has none of its resources covered by a later one."""
        found = self.ledger()
        left, newest = ledger.to_roll_back(found), dict[str, str]()
        for txn, changes in left.items():
            for change in changes:
                newest.setdefault(change.resource, txn)
        free = [t for t, cs in left.items() if all(newest[c.resource] == t for c in cs)]
        assert bool(free) == bool(left), "the newest transaction is always free"
        if not free:
            return "nothing"
        txn = free[number % len(free)]
        reverse = tuple(change.reversed() for change in reversed(left[txn]))
        with Journal(self.folder) as journal:
            begin = self.begin(reverse, "rollback", (txn,))
            result = undo.roll_back(self.store, journal, begin, YES)
        assert result.stuck == ()
        return result.outcome

    def again(self) -> str:
        """Write everything in force once more: by itself a plan would find nothing to do."""
        held = ledger.in_force(self.ledger())
        for one in held.values():
            now = self.store.read(one.resource)
            assert self.store.same(one.resource, now, one.ours), one.resource
        if held:
            once = dump()
            for one in held.values():
                self.store.write(one.resource, one.ours)
            equal(unordered(once), unordered(dump()), "written again")
        return "same"


def run(argv: list[str], stdin: str = "", *, check: bool = True) -> str:
    """Return what a program prints; without ``check`` also what it says instead."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 or not check, (argv, stdin, done.stderr)
    return done.stdout + done.stderr


def dump() -> dict[str, str]:
    """Return what every tool says of this namespace, without counters and comments.

    iptables-nft-save gives up on a native table that has the name of one of its own. What nft says
    of targets that it does not know stands between any two tables.
    """
    listed = run(["nft", "-s", "list", "ruleset"]).splitlines()
    found = {"nft": normal("\n".join(line for line in listed if not line.startswith("XT ")))}
    for program, family in (("iptables", xtables.IPV4), ("ip6tables", xtables.IPV6)):
        if f"table {family.nft} " in found["nft"]:
            found[f"{program}-nft"] = normal(run([f"{program}-nft-save"], check=False))
        if any(xtables.legacy_loaded(family, table) for table in CHAINS):
            found[f"{program}-legacy"] = normal(run([f"{program}-legacy-save"]))
    store = HostResources()
    return {**found, **{key: store.read(f"sysctl:{key}") or "" for key in SYSCTLS}}


def unordered(found: dict[str, str]) -> dict[str, str]:
    """Return a dump with nft's tables sorted: one that is replaced comes last in nft's list."""
    tables = re.split(r"^(?=table )", found["nft"], flags=re.MULTILINE)
    return {**found, "nft": "".join(f"{table.rstrip()}\n" for table in sorted(tables))}


def load(world: Foreign) -> None:
    for store, text in world.saves.items():
        if text:
            run([f"{store}-restore", "--noflush"], text)
    run(["nft", "-f", "-"], world.nft)
    HostResources().write(f"sysctl:{LIBERAL}", world.liberal)


def go(world: Foreign, steps: Sequence[Step], say: Callable[[str], None]) -> None:
    """Build the world, take the steps, roll back whatever is left, and compare."""
    with tempfile.TemporaryDirectory() as folder, netns.scratch():
        load(world)
        tool, before = Tool(folder, "legacy" if world.legacy else "nft", say), dump()
        for step in steps:
            here = dump() if step.do != "again" else {}
            if step.do == "apply":
                changes = tool.changes(step)
                outcome = tool.apply(changes) if changes else "nothing"
                if outcome == "applied":
                    assert tool.changes(step) == (), "a second apply finds something to do"
            elif step.do == "give back":
                outcome = tool.give_back(step.number)
            elif step.do == "roll back":
                outcome = tool.roll_back(step.number)
            else:
                outcome = tool.again()
            say(f"{step.do}: {outcome}")
            if step.do == "apply" and outcome in ("refused", "rolled-back"):
                equal(unordered(here), unordered(dump()), "half of it is left")
        for number in range(len(steps) + 1):
            if tool.roll_back(steps[number % len(steps)].number) == "nothing":
                break
        assert ledger.in_force(tool.ledger()) == {}
        equal(before, dump(), "not as before")


def equal(one: dict[str, str], other: dict[str, str], what: str) -> None:
    """Raise AssertionError with the lines that differ."""
    differs = difference(one, other)
    assert not differs, f"{what}:\n{differs}"
