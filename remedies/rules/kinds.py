"""The kinds of resources, as those see them that do not write them. Pure.

One row for each scheme of an address. What only a driver does (read, write, undo) is in
:mod:`remedies.resources`; what planning, status and boot files have to know of a kind (which
packets its rules meet, what it costs, which fix made it, what loads it at boot) is asked here, so
that nobody else looks at the scheme.

Memory is what the kernel allocates for the rules, rounded up: the difference that a thousand
tables, chains and rules like ours make in /proc/slabinfo (Linux 6.18, x86-64); for the legacy
tables, whose entries lie in one block, the sizes of struct ipt_entry, ip6t_entry and their
matches (include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter/xt_*.h).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from remedies.errors import InputError
from remedies.model import Action, Reversibility
from remedies.rules import flow_address, own_rules, restore_script
from remedies.rules.ours import WRITTEN, iptables_in_force
from remedies.rules.rule import PacketRule
from remedies.values import dataclass

_TABLE, _CHAIN = 3072, 1024
_RULE, _XT_RULE = 768, 1536
"""Bytes of a rule of native expressions, and of one of xtables' matches (which hold 256 for a
comment): the rule, and its copy in the block that packets walk."""
_PROGRAMS = "/usr/sbin"  # where Debian, Fedora and SUSE have them; Arch links it
_MARKS: dict[Action, str] = {"create": "+", "remove": "-", "update": "~"}


@dataclass(frozen=True)
class Loading:
    """How a state is loaded at boot without Python: from one file, by these command lines."""

    text: str
    """What the file holds."""
    command: str
    clears: tuple[str, ...] = ()
    """Run before; each fails where there is nothing to clear."""


class Kind:
    """One kind of resource; what it does not say of itself, it does not have."""

    boot = False
    """It is read at the next boot only."""
    boot_data = ""
    """How the name of the file ends from which a unit loads it at boot; empty: no unit does."""
    comes_back = True
    """What it changes can be put back; else it is done once, and nothing of it is in force."""
    boot_remarks = True
    """Lines that begin with ``#`` say nothing in that file."""
    cleared_by_firewalld = False
    """firewalld empties it while it starts, after systemd takes it for started."""

    def rules(self, path: str, state: str) -> tuple[PacketRule, ...]:
        """Return the rules that packets meet while ``state`` is in force."""
        return ()

    def family(self, path: str) -> str:
        """Return whose packets its rules see: ``ip``, ``ip6`` or ``inet``; empty: it has none."""
        return ""

    def memory(self, rules: tuple[PacketRule, ...]) -> int:
        """Return the bytes of kernel memory that such rules take, rounded up."""
        return 0

    def unjudged(self, path: str) -> str:
        """Return what it can do to packets beside its rules, for people; empty for nothing."""
        return ""

    def deletes(self, path: str) -> Optional[tuple[int, ...]]:
        """Return the ports whose flows are deleted when it goes; None where it is no effect.

        Raises InputError where the path names no flow.
        """
        return None

    def removal(self, path: str, state: Optional[str]) -> Reversibility:
        """Tell whether the removal of ``state`` can be undone exactly."""
        return "exact"

    def made_by(self, path: str, state: str, fixes: Iterable[str]) -> Optional[str]:
        """Return which of ``fixes`` made what is there, by its name; None where none did."""
        part = path.rpartition("/")[2].lower().replace("-", "_").partition("_")[2].replace("_", "-")
        return next((fix for fix in fixes if part and part in fix), None)

    def summary(
        self, address: str, action: Action, before: Optional[str], after: Optional[str]
    ) -> str:
        """Return one line for a change: ``+ nft:inet/remedy_x``."""
        return f"{_MARKS[action]} {address}"

    def loading(self, path: str, state: str, file: str) -> Loading:
        """Return how a unit loads ``state`` from ``file``; of kinds with ``boot_data`` alone.

        Raises InputError for a state that is not of ours.
        """
        raise NotImplementedError(path)


class _SysctlKind(Kind):
    harmless = frozenset(("net.ipv4.tcp_tw_reuse", "net.netfilter.nf_conntrack_tcp_be_liberal"))
    """Keys that drop and redirect nothing that passed before."""

    def unjudged(self, path: str) -> str:
        if path.replace("/", ".") in self.harmless:
            return ""
        return f"{path} can change which packets pass; that was not judged"

    def summary(
        self, address: str, action: Action, before: Optional[str], after: Optional[str]
    ) -> str:
        return f"{address.rpartition('.')[2]} {str(before).strip()} -> {str(after).strip()}"


class _NftKind(Kind):
    boot_data = "json"
    boot_remarks = False

    def rules(self, path: str, state: str) -> tuple[PacketRule, ...]:
        return tuple(own_rules.nft(state))

    def family(self, path: str) -> str:
        return path.partition("/")[0]

    def memory(self, rules: tuple[PacketRule, ...]) -> int:
        chains = {(rule.chain, rule.hook) for rule in rules}
        return _TABLE + len(chains) * _CHAIN + len(rules) * _RULE if rules else 0

    def loading(self, path: str, state: str, file: str) -> Loading:
        text = restore_script.nft_batch(path, state)
        return Loading(text, f"{_PROGRAMS}/nft -j -f {file}")


class _IptablesKind(Kind):
    cleared_by_firewalld = True

    def __init__(self, program: str, family: str, boot_data: str) -> None:
        self._program, self._family, self.boot_data = program, family, boot_data

    def rules(self, path: str, state: str) -> tuple[PacketRule, ...]:
        return tuple(own_rules.iptables(path, self._family, state))

    def family(self, path: str) -> str:
        return self._family

    def memory(self, rules: tuple[PacketRule, ...]) -> int:
        """Our chain, and for each hook the jump to it; the table may have to be made for it."""
        lines = {rule.text for rule in rules}
        hooks = len({rule.hook for rule in rules})
        size = _TABLE + (1 + hooks) * _CHAIN + (len(lines) + hooks) * _XT_RULE
        return size if rules else 0

    def removal(self, path: str, state: Optional[str]) -> Reversibility:
        variants = iptables_in_force(state, path.rpartition("/")[2])
        return "lossy" if "legacy" in variants else "exact"

    def loading(self, path: str, state: str, file: str) -> Loading:
        batch = restore_script.iptables_batch(path, state)
        program = f"{_PROGRAMS}/{self._program}-{batch.variant}"
        # -w takes what follows for seconds, unless that begins with a dash.
        return Loading(
            batch.text,
            f"{program}-restore -w --noflush {file}",
            tuple(f"{program} -w -t {batch.table} -D {jump}" for jump in batch.jumps),
        )


class _FileKind(Kind):
    boot = True

    def made_by(self, path: str, state: str, fixes: Iterable[str]) -> Optional[str]:
        name = path.rpartition("/")[2]
        made = (fix for fix in fixes if fix in name or state.startswith(f"{WRITTEN}{fix})"))
        return next(made, None)


class _FlowKind(Kind):
    comes_back = False

    def deletes(self, path: str) -> Optional[tuple[int, ...]]:
        named = flow_address.split(path)
        if isinstance(named, flow_address.LinkFlows):
            return (named.port,)
        return named.source_port, named.destination_port

    def summary(
        self, address: str, action: Action, before: Optional[str], after: Optional[str]
    ) -> str:
        return f"{_MARKS[action]} {flow_address.name(address.partition(':')[2])}"


KINDS: dict[str, Kind] = {
    "sysctl": _SysctlKind(),
    "nft": _NftKind(),
    "iptables": _IptablesKind("iptables", "ip", "ipv4"),
    "ip6tables": _IptablesKind("ip6tables", "ip6", "ipv6"),
    "file": _FileKind(),
    "flow": _FlowKind(),
}
"""By scheme; each has its driver, ``resources/SCHEME.py``."""


def split(address: str) -> tuple[str, str]:
    """Split ``scheme:path``; raise InputError for a scheme that is none of :data:`KINDS`."""
    scheme, _, path = address.partition(":")
    if scheme not in KINDS or not path:
        raise InputError(f"no resource has the address {address!r}", f"schemes: {', '.join(KINDS)}")
    return scheme, path


def of(address: str) -> tuple[Kind, str]:
    """Return the kind of a resource, and the path behind its scheme; raise InputError."""
    scheme, path = split(address)
    return KINDS[scheme], path


def comes_back(address: str) -> bool:
    """Tell whether what is changed there can be put back; so does an address that is none."""
    kind = KINDS.get(address.partition(":")[0])
    return kind is None or kind.comes_back


def rules_of(address: str, state: Optional[str]) -> tuple[PacketRule, ...]:
    """Return the rules that packets meet while ``state`` is in force; none for absent."""
    kind, path = of(address)
    return () if state is None else kind.rules(path, state)
