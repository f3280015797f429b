"""Nat hooks, INVALID drops and notrack rules in nft, iptables-nft and iptables-legacy."""

from __future__ import annotations

import errno
import functools
from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts import links
from remedies.netfilter import variants, walk
from remedies.netfilter.accepts import Accepts, AcceptSearch
from remedies.netfilter.chains import ReadTables
from remedies.netfilter.invalid import judged
from remedies.netfilter.redirects import Redirect, redirects
from remedies.netfilter.stores import Base, Legacy, NfTables, RuleStore
from remedies.netfilter.tracking import tracks
from remedies.netlink.links import Address, Links
from remedies.rules import marks
from remedies.rules.decoded import Mark
from remedies.rules.invalid_packet import EVERYONE, stays_here, target, translated
from remedies.rules.matching import conjoin, covers
from remedies.rules.prefixes import contains, single
from remedies.rules.rule import CONNTRACK_PRIORITY, NAT_ACTIONS, Match, NatAction, PacketRule
from remedies.rules.sought import Sought
from remedies.rules.unlisted import UnlistedRules
from remedies.values import dataclass, field, replace

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("links",)
ACCEPTS_TOPIC = "accepts-of-invalid"
"""A topic of :class:`~remedies.facts.Asking`: look for rules that let INVALID segments live."""
_FOLLOWED = 3_000
"""Rules met on the ways to NAT; past that, which links it serves is not asked."""
_DECODED = 2_000
"""NAT rules read where they cannot be followed; past that, they may rewrite in any way."""
_SOURCE_KINDS = {"snat", "masquerade", "redirect"}


@dataclass(frozen=True)
class NatUse:
    """One way in which addresses of one family are rewritten."""

    family: str
    """``ip``, ``ip6``, or ``inet`` for both."""
    action: NatAction
    hook: str = ""
    """Where it is done; empty where that is not known."""
    away: bool = False
    """The addresses that it stands for are none of this host's own: what is not translated back
    goes on, or nowhere, but not to the host's own TCP."""


@dataclass(frozen=True)
class Netfilter:
    """What the rulesets hold of the few rules that our conditions turn on.

    Read without listing a ruleset: raw netlink finds the chains and rules that could matter.
    """

    nf_tables: bool
    """The kernel answers on nf_tables."""
    iptables: str
    """The variant whose rules live here: ``nft``, ``legacy``, ``both``, or ``none``."""
    nat: tuple[str, ...] = ()
    """Where addresses are rewritten, one line per base chain that holds or reaches a NAT rule."""
    nat_uses: tuple[NatUse, ...] = ()
    """What foreign rules that can see TCP do, but for what runs over the loopback alone. Reading a
    large base chain ends once ``dnat`` and one of the others have been seen for its family."""
    conntrack_used: bool = False
    """Something other than us makes this namespace track connections."""
    drops: tuple[PacketRule, ...] = ()
    """INVALID drops, ours and foreign; only effective ones (see ``netfilter.invalid``). One that
    stands in prerouting comes for input and for forward; one on output keeps in the host's own
    reset, which is all that a drop on input is for."""
    lets_by: tuple[PacketRule, ...] = ()
    """Rules that accept some INVALID segments before another drops the rest."""
    doubts: tuple[PacketRule, ...] = ()
    """Rules that are not understood and may accept some where all others are dropped."""
    notracks: tuple[PacketRule, ...] = ()
    redirects: tuple[Redirect, ...] = ()
    """Ours that are in force."""
    mixed: tuple[str, ...] = ()
    """The base chains that forwarded packets pass, where both variants of iptables have some."""
    unlisted: tuple[UnlistedRules, ...] = ()
    unread: tuple[str, ...] = ()
    """What could not be read, and why."""
    accepts: Optional[Accepts] = None
    """Rules that let INVALID segments live on purpose; None where nobody asked."""
    unread_notracks: tuple[str, ...] = ()
    """Where a notrack rule may stand that could not be read, and why."""
    nat_unread: tuple[str, ...] = ()
    """Families (``ip``, ``ip6``, ``inet``) of chains that may rewrite addresses in any way: they
    could not be read."""

    @property
    def store(self) -> str:
        """Return where an iptables rule of ours belongs: ``nft`` or ``legacy``.

        With the rules that are there; where both variants have some, and where none does, in the
        nf_tables store, whose tables go again with their last chain.
        """
        return "legacy" if self.iptables == "legacy" or not self.nf_tables else "nft"

    @property
    def lived_by(self) -> Accepts:
        """Return the rules that let INVALID segments live; raise Unreadable if nobody asked."""
        if self.accepts is None:
            raise Unreadable("rules that accept INVALID segments were not asked for")
        return self.accepts


def open_stores(
    deadline: float, among: Optional[Sought] = None
) -> tuple[list[RuleStore], list[str]]:
    """Return the rule stores of this namespace, and why one that exists cannot be read.

    ``among``: in big maps of verdicts what is asked for is followed alone.
    Raises Unreadable where none may be read: without CAP_NET_ADMIN.
    """
    stores: list[RuleStore] = []
    unread: list[str] = []
    try:
        stores.append(NfTables(deadline, among))
    except OSError as error:
        if error.errno == errno.EPERM:
            raise Unreadable("nf_tables: permission denied", "run as root") from error
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT):
            unread.append(f"nf_tables: {error.strerror}")
    except Unreadable as error:
        unread.append(str(error))
    try:
        stores.append(Legacy(deadline))
    except Unreadable as error:
        unread.append(str(error))
    return stores, unread


def read(asking: Asking) -> Netfilter:
    """Read the fact; ends at ``asking``'s deadline. Raises Unreadable without CAP_NET_ADMIN."""
    stores, unopened = open_stores(asking.deadline())
    near = _links(asking)
    bases = [
        (store, base)
        for store in stores
        for base in store.bases()
        if base.rules or not base.accepts
    ]
    reading = _HookAnswers(
        tuple(bases), near.addresses, unread=list(unopened), unread_notracks=list(unopened)
    )
    places = [base.place for _, base in bases]
    # NAT first, of every store: which packets a drop has to cover hangs on the links that NAT
    # serves; sources first, which are few: beside them the first DNAT of many answers. Then ours:
    # beside a program that writes all the time, there may be no time for more.
    bases.sort(
        key=lambda at: (
            at[1].type != "nat",
            at[1].type == "nat" and at[1].hook != "postrouting",
            not walk.ours(at[1].table, at[1].chain),
        )
    )
    for store, base in bases:
        reading.base(store, base)
    search = AcceptSearch() if ACCEPTS_TOPIC in asking.topics else None
    tables = search.tables if search else ReadTables()
    invalid = judged(bases, reading.served, near, tables)
    backends = {
        store.backend(family, table)
        for store in stores
        for family, table in store.tables()
        if store.chains(family, table)
    }
    used = variants.variant(backends)
    return Netfilter(
        nf_tables=any(type(store).__name__ == "NfTables" for store in stores),
        iptables=used,
        mixed=variants.mixed(base for _, base in bases) if used == "both" else (),
        unlisted=variants.unlisted(bases, reading.unread),
        nat=tuple(place for place in places if place in reading.nat),
        nat_uses=tuple(sorted(reading.uses, key=_in_order)),
        nat_unread=tuple(reading.nat_unread),
        conntrack_used=bool(reading.nat) or tracks(stores, reading.unread),
        drops=invalid.drops,
        lets_by=invalid.lets_by,
        doubts=invalid.doubts,
        notracks=tuple(reading.notracks),
        redirects=_redirects(stores, reading),
        accepts=search.found(bases, unopened) if search else None,
        unread=(*reading.unread, *invalid.unread),
        unread_notracks=tuple(reading.unread_notracks),
    )


def _links(asking: Asking) -> Links:
    """Return the links and addresses of this namespace; none where they cannot be read."""
    known = asking.earlier(Links)
    try:
        return links.read(asking) if known is None else known
    except Unreadable:
        return Links()


def _in_order(use: NatUse) -> tuple[str, int]:
    return use.family, NAT_ACTIONS.index(use.action)


def _redirects(stores: list[RuleStore], reading: _HookAnswers) -> tuple[Redirect, ...]:
    try:
        return redirects(stores)
    except Unreadable as error:
        reading.unread.append(str(error))
        return ()


@dataclass
class _HookAnswers:
    """What has been found so far."""

    places: tuple[tuple[RuleStore, Base], ...]
    addresses: tuple[Address, ...]
    """Of this host."""
    unread: list[str]
    unread_notracks: list[str]
    nat: list[str] = field(default_factory=list)
    uses: dict[NatUse, None] = field(default_factory=dict)
    nat_unread: dict[str, None] = field(default_factory=dict)
    rewrites: list[PacketRule] = field(default_factory=list)
    """NAT rules by their whole match."""
    blind: bool = False
    """Not all of them could be followed."""
    vast: set[str] = field(default_factory=set)
    """Backend, family and table of those: their other hooks lead to the same chains."""
    notracks: list[PacketRule] = field(default_factory=list)

    def base(self, store: RuleStore, base: Base) -> None:
        """Ask one base chain what its hook and type can answer."""
        if base.type == "nat":
            self._nat(store, base)
        elif base.priority < CONNTRACK_PRIORITY and base.hook in ("prerouting", "output"):
            self._notracks(store, base)

    def _nat(self, store: RuleStore, base: Base) -> None:
        place = base.place
        try:
            if not any(True for _ in walk.reachable(store, base, walk.NAT_WORDS)):
                return
            if place.rpartition(" ")[0] not in self.vast and self._followed(store, base, place):
                return
            decoded = 0
            for chain, raw in walk.reachable(store, base, walk.NAT_WORDS):
                if walk.ours(base.table, chain):
                    continue
                decoded += 1
                if decoded > _DECODED:
                    raise Unreadable(f"more than {_DECODED} NAT rules")
                for step in store.decode(base.family, base.table, raw):
                    self._use(base, place, _action(base, step.action), step.match, step.to)
                if self.nat and self.nat[-1] == place and self._answered(base.family):
                    return
        except Unreadable as error:
            self.unread.append(f"{place}: {error}")
            self.nat_unread[base.family] = None
            self.blind = True

    def _followed(self, store: RuleStore, base: Base, place: str) -> bool:
        """Follow every way to a NAT rule; False where there are too many."""
        try:
            rules = walk.collect(store, base, NAT_ACTIONS, _FOLLOWED, named=False)
        except Unreadable:
            self.blind = True
            self.vast.add(place.rpartition(" ")[0])
            return False
        for found in rules:
            rule = replace(found, action=_action(base, found.action))
            if all(_taken_first(rule, version) for version in rule.versions):
                continue  # no packet gets to it
            if not walk.ours(base.table, rule.chain):
                version = _version(rule.match, rule.to) or self._version_left(rule)
                if not stays_here(base.hook, rule.action, rule.match, rule.to):
                    self.rewrites.append(replace(rule, version=version))
                self._use(base, place, rule.action, rule.match, rule.to, version)
        return True

    def _version_left(self, rule: PacketRule) -> str:
        """Return the one IP version whose packets get to a rule that names no address, or nothing.

        An earlier rule may take the other's, and rules that give the mark it asks for may see one.
        """
        versions = [v for v in rule.versions if not _taken_first(rule, v)]
        tests = marks.asked_of(rule) if len(versions) > 1 else ()
        if not all(test.met(0) for test in tests):
            given = marks.givers(tests, self.marked)
            versions = [v for v in versions if not given or v in given]
        return versions[0] if len(versions) == 1 and rule.family == "inet" else ""

    @functools.cached_property
    def marked(self) -> tuple[tuple[str, Optional[Mark]], ...]:
        """Return which IP version's packets each rule marks, and how; any, where that is unread."""
        found: list[tuple[str, Optional[Mark]]] = []
        for store, base in self.places:
            family = "" if base.family == "inet" else base.family
            try:
                rules = walk.marked(store, base)
            except Unreadable:
                found.append((family, (0, None)))
            else:
                found += [(family or _version(match, ""), mark) for match, mark in rules]
        return tuple(found)

    def _use(
        self, base: Base, place: str, word: str, match: Match, to: str, version: str = ""
    ) -> None:
        action = next((nat for nat in NAT_ACTIONS if nat == word), None)
        if action is None:
            return
        if not self.nat or self.nat[-1] != place:
            self.nat.append(place)
        sees_tcp = not match.protocols or "tcp" in match.protocols
        if sees_tcp and not stays_here(base.hook, action, match, to):
            family = version or _version(match, to) or base.family
            asked = base.hook, action
            stands_for = translated(to) if asked == ("postrouting", "snat") else ()
            if asked == ("prerouting", "dnat"):
                stands_for = match.destinations
            away = bool(stands_for) and self._elsewhere(stands_for)
            self.uses[NatUse(family, action, base.hook, away)] = None

    def _elsewhere(self, prefixes: tuple[str, ...]) -> bool:
        """Tell whether none of these addresses is this host's, as far as its own are known."""
        own = [single(each.address) for each in self.addresses]
        return bool(own) and not any(contains(prefix, one) for prefix in prefixes for one in own)

    def _answered(self, family: str) -> bool:
        seen = {use.action for use in self.uses if use.family in (family, "inet")}
        return "dnat" in seen and not _SOURCE_KINDS.isdisjoint(seen)

    def _notracks(self, store: RuleStore, base: Base) -> None:
        try:
            if any(True for _ in walk.reachable(store, base, walk.NOTRACK_WORDS)):
                self.notracks.extend(walk.collect(store, base, ("notrack",)))
        except Unreadable as error:
            self.unread_notracks.append(f"{base.place}: {error}")

    def served(self, family: str) -> list[PacketRule]:
        """Return the NAT rules of an IP version; none where not all could be followed."""
        return [] if self.blind else [r for r in self.rewrites if family in r.versions]


def _action(base: Base, action: str) -> str:
    """Return what a rule does at the hook of its base chain.

    NETMAP rewrites the source of what is on its way out (net/netfilter/xt_NETMAP.c).
    """
    return "snat" if action == "dnat" and base.hook in ("postrouting", "input") else action


def _version(match: Match, to: str) -> str:
    """Return the IP version of the addresses that a NAT rule names; empty where it names none."""
    named = (*match.sources, *match.destinations, *target(to)[0])
    return ("ip6" if ":" in named[0] else "ip") if named else ""


def _taken_first(rule: PacketRule, version: str) -> bool:
    """Tell whether no packet of an IP version gets to a rule."""
    packets = conjoin(rule.match, Match(sources=(EVERYONE[version],)))
    return packets is None or any(covers(earlier, packets) for earlier in rule.after)
