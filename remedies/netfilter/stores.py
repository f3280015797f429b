"""The rule stores of a namespace behind one face: nf_tables and the legacy tables.

A store lists base chains, streams the raw rules of one chain, and decodes the few that are worth
it. iptables-nft's tables are nf_tables tables: they are told by their names.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from typing import Optional, Protocol

from remedies.errors import Unreadable
from remedies.netfilter import legacy, libnftables, referred_to, shown
from remedies.netfilter.expressions import decode
from remedies.netfilter.maps import OnlyAmong, verdict_maps
from remedies.netlink import nft
from remedies.netlink.socket import Interrupted
from remedies.rules.decoded import Step
from remedies.rules.ours import NFT_PREFIX
from remedies.rules.sought import Sought
from remedies.values import dataclass

HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
"""Names of ``enum nf_inet_hooks`` (include/uapi/linux/netfilter.h)."""

XTABLES = ("raw", "mangle", "nat", "filter", "security")
_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_SET_LIMIT = 2048
_BIG_LIMIT = 1 << 15
_LEAD_LIMIT = 1 << 17
_PRINTED = 1 << 11
"""Rules of a table that nft is asked to print: it loads and prints them all."""
_DECODED = 1 << 12
"""Rules of which it is remembered what they mean: hooks lead to the same chains."""
_JUMPS = (b"\xff\xff\xff\xfd", b"\xff\xff\xff\xfc")  # NFT_JUMP, NFT_GOTO
_LEADS = b"\xff\xff\xff"
_PAYLOAD = b"payload\0"
_PROTOCOL = {
    # NFTA_PAYLOAD_BASE, OFFSET and LEN of the byte that names the protocol: RFC 791, RFC 8200
    family: b"\x08\0\2\0\0\0\0\1" + b"\x08\0\3\0\0\0\0" + at + b"\x08\0\4\0\0\0\0\1"
    for family, at in (("ip", b"\x09"), ("ip6", b"\x06"))
}
_TCP_FLAGS = b"\x08\0\2\0\0\0\0\2" + b"\x08\0\3\0\0\0\0\x0d" + b"\x08\0\4\0\0\0\0\1"
"""The same of the byte with TCP's flags: RFC 9293."""
_WIDE = {
    "ip": (_PROTOCOL["ip"], _TCP_FLAGS),
    "ip6": (_PROTOCOL["ip6"], _TCP_FLAGS),
    "inet": (*_PROTOCOL.values(), _TCP_FLAGS),
}
"""What every TCP packet has, by family."""


@dataclass(frozen=True)
class Base:
    """A chain that the kernel itself calls."""

    backend: str
    """``nft``, ``iptables-nft`` or ``iptables-legacy``."""
    family: str
    table: str
    chain: str
    hook: str
    priority: int
    type: str
    """``filter``, ``nat`` or ``route``."""
    accepts: bool
    """The policy is accept."""
    rules: int
    """0 where it is empty; for nf_tables how many rules, for legacy tables how many bytes."""

    @property
    def place(self) -> str:
        """Return backend, family, table and chain, as messages and facts name it."""
        return f"{self.backend} {self.family} {self.table} {self.chain}"


class RuleStore(Protocol):
    """Where rules live."""

    left_out: list[str]
    """What of maps of verdicts was too much to be followed."""

    def bases(self) -> tuple[Base, ...]:
        """Return the base chains."""

    def tables(self) -> tuple[tuple[str, str], ...]:
        """Return family and name of each table."""

    def chains(self, family: str, table: str) -> tuple[str, ...]:
        """Return the chains of a table that hold rules."""

    def raw(self, family: str, table: str, chain: str) -> Iterator[bytes]:
        """Yield the rules of a chain, as the kernel gives them."""

    def every(self, family: str, table: str) -> Iterator[tuple[str, bytes]]:
        """Yield chain and raw rule of each rule of a table."""

    def follow(self, family: str, table: str, chains: frozenset[str]) -> None:
        """Take note of chains to which big maps of verdicts are followed, whatever is asked for."""

    def followed(self, family: str, table: str) -> Optional[frozenset[str]]:
        """Return these chains, None before any were noted."""

    def targets(self, family: str, table: str, rule: bytes) -> tuple[str, ...]:
        """Return the chains that a raw rule leads to."""

    def narrow(self, family: str, rule: bytes) -> bool:
        """Tell by a raw rule's bytes that it surely does not concern every TCP packet."""

    def decode(self, family: str, table: str, rule: bytes) -> tuple[Step, ...]:
        """Return what a raw rule means; raise Unreadable where that cannot be told."""

    def text(self, family: str, table: str, chain: str, step: Step) -> str:
        """Return a rule as its tool prints it."""

    def backend(self, family: str, table: str) -> str:
        """Return the backend that a table belongs to."""


class NfTables:
    """The nf_tables store of the namespace the process is in.

    A table that is switched off (``flags dormant``) is left out: no packet meets its rules.
    """

    def __init__(self, deadline: float, among: Optional[Sought] = None) -> None:
        """Read the chains. Raises OSError with the kernel's error number, and Unreadable.

        ``among``: in big maps of verdicts what is asked for is followed alone.
        """
        self._deadline = deadline
        self._followed: dict[tuple[str, str], frozenset[str]] = {}
        self.left_out: list[str] = []
        asleep = nft.dormant(deadline)
        self._chains = [
            chain for chain in nft.chains(deadline) if (chain.family, chain.table) not in asleep
        ]

        @functools.lru_cache(maxsize=256)
        def elements(family: str, table: str, name: str, limit: int) -> list[nft.Element]:
            return nft.elements(family, table, name, limit, deadline)

        @functools.lru_cache(maxsize=256)
        def leads(family: str, table: str, name: str) -> tuple[str, ...]:
            return nft.map_targets(family, table, name, _LEAD_LIMIT, deadline)

        host = referred_to.of_kernel(deadline)

        @functools.lru_cache(maxsize=_DECODED)
        def decoded(family: str, table: str, rule: bytes) -> tuple[Step, ...]:
            def read(name: str, limit: int = _SET_LIMIT) -> list[nft.Element]:
                return self._read(family, table, name, limit)

            only = None
            if among is not None:
                chains = self._followed.get((family, table), frozenset())
                big = functools.partial(read, limit=_BIG_LIMIT)
                only = OnlyAmong(among, big, chains, self.left_out.append)
            return decode(rule, family, read, host, only)

        @functools.lru_cache(maxsize=256)
        def printed(family: str, table: str) -> Mapping[int, str]:
            inside = [c.use for c in self._chains if (c.family, c.table) == (family, table)]
            if table.startswith(NFT_PREFIX) or sum(inside) > _PRINTED:
                return {}
            try:
                return libnftables.printed_rules(family, table)
            except Unreadable:  # no binding here, say: the decoded rule and its handle tell enough
                return {}

        self._elements, self._leads, self._decoded = elements, leads, decoded
        self._printed = printed
        xtables = {
            (chain.family, chain.table)
            for chain in self._chains
            if chain.hook is not None
            and chain.family != "inet"
            and chain.table in XTABLES
            and chain.name == HOOKS[chain.hook].upper()
        }
        self._xtables = frozenset(xtables)

    def bases(self) -> tuple[Base, ...]:
        """Return the base chains."""
        return tuple(
            Base(
                backend=self.backend(chain.family, chain.table),
                family=chain.family,
                table=chain.table,
                chain=chain.name,
                hook=HOOKS[chain.hook],
                priority=chain.priority,
                type=chain.type,
                accepts=chain.accepts,
                rules=chain.use,
            )
            for chain in self._chains
            if chain.hook is not None and chain.hook < len(HOOKS)
        )

    def tables(self) -> tuple[tuple[str, str], ...]:
        """Return family and name of each table that has chains."""
        return tuple(dict.fromkeys((chain.family, chain.table) for chain in self._chains))

    def chains(self, family: str, table: str) -> tuple[str, ...]:
        """Return the chains of a table that hold rules."""
        return tuple(
            chain.name
            for chain in self._chains
            if chain.use and (chain.family, chain.table) == (family, table)
        )

    def raw(self, family: str, table: str, chain: str) -> Iterator[bytes]:
        """Yield the rules of a chain; some come again where they change meanwhile.

        Raises Unreadable when they change too fast to be read whole.
        """
        try:
            yield from nft.all_rules(family, table, chain, self._deadline)
        except Interrupted:
            raise Unreadable(f"chain {family} {table} {chain} kept changing", "try again") from None
        except OSError as error:
            raise Unreadable(f"chain {family} {table} {chain}: {error.strerror}") from error

    def targets(self, family: str, table: str, rule: bytes) -> tuple[str, ...]:
        """Return where a jump or goto leads, read off its bytes; of a map by names alone."""
        for code in _JUMPS if rule.find(_LEADS) >= 0 else ():
            at = rule.find(code)
            if at >= 0:
                start = at + len(code) + 4  # behind the header of NFTA_VERDICT_CHAIN
                name = rule[start : rule.find(b"\0", start)]
                return (name.decode(errors="replace"),)
        if rule.find(b"lookup") < 0:
            return ()
        maps = verdict_maps(rule)
        return tuple(dict.fromkeys(c for name in maps for c in self._led_to(family, table, name)))

    def every(self, family: str, table: str) -> Iterator[tuple[str, bytes]]:
        """Yield chain and raw rule of each rule of a table, by one dump; raise Unreadable."""
        try:
            yield from nft.table_rules(family, table, self._deadline)
        except Interrupted:
            raise Unreadable(f"table {family} {table} kept changing", "try again") from None
        except OSError as error:
            raise Unreadable(f"table {family} {table}: {error.strerror}") from error

    def follow(self, family: str, table: str, chains: frozenset[str]) -> None:
        """Take note of chains to which big maps of verdicts are followed, whatever is asked for."""
        self._followed[family, table] = chains

    def followed(self, family: str, table: str) -> Optional[frozenset[str]]:
        """Return these chains, None before any were noted."""
        return self._followed.get((family, table))

    def _led_to(self, family: str, table: str, name: str) -> tuple[str, ...]:
        try:
            return self._leads(family, table, name)
        except OSError as error:
            raise Unreadable(f"map {name}: {error.strerror}") from error

    def narrow(self, family: str, rule: bytes) -> bool:
        """Tell that a rule looks at header fields other than the protocol and TCP's flags.

        ``ip protocol tcp`` looks at a header and still means every packet; iptables-nft 1.8.11
        writes ``-p tcp`` so, older ones as ``meta l4proto tcp``.
        """
        looks = rule.count(_PAYLOAD)
        if looks:
            for each in _WIDE[family]:
                looks -= rule.count(each)
        return looks > 0

    def decode(self, family: str, table: str, rule: bytes) -> tuple[Step, ...]:
        """Return what a raw rule means, its sets read."""
        return self._decoded(family, table, rule)

    def _read(self, family: str, table: str, name: str, limit: int) -> list[nft.Element]:
        try:
            return self._elements(family, table, name, limit)
        except OSError as error:
            raise Unreadable(f"set {name}: {error.strerror}") from error

    def text(self, family: str, table: str, chain: str, step: Step) -> str:
        """Return a rule in nft's syntax, or iptables' where that tool owns the table."""
        if self.backend(family, table) == "iptables-nft":
            return shown.by_iptables_nft(family, chain, step)
        return shown.by_nft(step, functools.partial(self._printed, family, table))

    def backend(self, family: str, table: str) -> str:
        """Return ``iptables-nft`` for a table with that tool's name and base chains."""
        return "iptables-nft" if (family, table) in self._xtables else "nft"


class Legacy:
    """The legacy tables of the namespace the process is in."""

    def __init__(self, deadline: float) -> None:
        """Read every table that exists. Raises Unreadable."""
        self._host = referred_to.of_kernel(deadline)
        self._tables = {}
        self.left_out: list[str] = []
        self._followed: dict[tuple[str, str], frozenset[str]] = {}
        self._offsets: dict[tuple[str, str], dict[str, int]] = {}
        """Each chain's name, with where it begins."""
        for family in ("ip", "ip6"):
            for name in legacy.tables(family):
                if time.monotonic() > deadline:
                    raise Unreadable("legacy tables took too long to read")
                table = self._tables[family, name] = legacy.read(family, name)
                offsets = {chain: at for at, chain in table.chains.items()}
                offsets.update((HOOKS[hook].upper(), at) for hook, at in table.hooks.items())
                self._offsets[family, name] = offsets

    def bases(self) -> tuple[Base, ...]:
        """Return the built-in chains."""
        return tuple(
            Base(
                backend="iptables-legacy",
                family=family,
                table=name,
                chain=HOOKS[hook].upper(),
                hook=HOOKS[hook],
                priority=_PRIORITIES.get(name, -100),
                type="nat" if name == "nat" else "filter",
                accepts=legacy.accepts(table, hook),
                rules=table.underflow[hook] - offset,
            )
            for (family, name), table in self._tables.items()
            for hook, offset in table.hooks.items()
        )

    def tables(self) -> tuple[tuple[str, str], ...]:
        """Return family and name of each table."""
        return tuple(self._tables)

    def chains(self, family: str, table: str) -> tuple[str, ...]:
        """Return the chains of a table that hold rules, and every user chain."""
        found = self._tables[family, table]
        filled = [h for h, offset in found.hooks.items() if offset != found.underflow[h]]
        return (*(HOOKS[hook].upper() for hook in filled), *found.chains.values())

    def raw(self, family: str, table: str, chain: str) -> Iterator[bytes]:
        """Yield the entries of a chain."""
        offset = self._offsets[family, table].get(chain)
        if offset is None:
            return iter(())
        return legacy.rules(self._tables[family, table], offset)

    def every(self, family: str, table: str) -> Iterator[tuple[str, bytes]]:
        """Yield chain and entry of each rule of a table."""
        for chain in self._offsets[family, table]:
            for entry in self.raw(family, table, chain):
                yield chain, entry

    def follow(self, family: str, table: str, chains: frozenset[str]) -> None:
        """Take note of chains; there are no maps of verdicts here."""
        self._followed[family, table] = chains

    def followed(self, family: str, table: str) -> Optional[frozenset[str]]:
        """Return these chains, None before any were noted."""
        return self._followed.get((family, table))

    def targets(self, family: str, table: str, rule: bytes) -> tuple[str, ...]:
        """Return the chain that an entry's target is, if it is one."""
        return legacy.targets(self._tables[family, table], rule)

    def narrow(self, family: str, rule: bytes) -> bool:
        """Tell that an entry has an address mask, or the ports of its first match are not all."""
        return legacy.narrow(family, rule)

    def decode(self, family: str, table: str, rule: bytes) -> tuple[Step, ...]:
        """Return what an entry means."""
        return legacy.decode(self._tables[family, table], rule, self._host)

    def text(self, family: str, table: str, chain: str, step: Step) -> str:
        """Return a rule as iptables-legacy-save prints it."""
        place = list(self.raw(family, table, chain)).index(step.raw) + 1 if step.raw else 0
        return shown.by_iptables_legacy(family, chain, step, place)

    def backend(self, family: str, table: str) -> str:
        """Return ``iptables-legacy``."""
        return "iptables-legacy"
