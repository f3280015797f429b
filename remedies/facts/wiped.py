"""NAT rules that are gone while what they were for is there: container networks, and programs.

Only where a container network has no NAT rule that its packets could meet on their way out, and a
flow that NAT turned once or a program that makes such rules says that it had one, is anything
listened to: packets between that network and elsewhere, on the links that lead out. Where the
rules of nf_tables are gone conntrack has ended with them (nf_ct_netns_put()), and what it held
stays in its table as it was.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking, Unwatched, Watch, owners, sysctl
from remedies.facts.nat import of_packets
from remedies.facts.netfilter import Netfilter, open_stores
from remedies.facts.ring_watch import RingWatch
from remedies.facts.routes import Routes
from remedies.netfilter.stores import RuleStore
from remedies.netlink import conntrack, conntrack_entry
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import BridgeNetwork, Links
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink
from remedies.rules.matching import conjoin
from remedies.rules.prefixes import contains
from remedies.rules.rule import Match, NatAction
from remedies.tap import segments
from remedies.tap.ring import Packet
from remedies.values import NamedTuple, dataclass

AFTER = ("links", "netfilter", "routes")

_TURNS_SOURCES: tuple[NatAction, ...] = ("snat", "masquerade")
_NETWORKS = 16
_TURNED = 4096
"""Flows with a turned source that are looked at."""
_WAYS = 512
_KEPT = 8
_BLOCKS = 8
_AT_ONCE = 2
_CONFIGURATION = "/etc/docker/daemon.json"
_OF_MAKERS = 4
"""The IP version for which these programs make NAT rules unless they are told not to."""


class RuleMaker(NamedTuple):
    """A program that makes NAT rules for containers when it starts, and how they are known."""

    title: str
    process: str
    """As :mod:`remedies.facts.owners` names it."""
    links: tuple[str, ...]
    """How the names of its bridges begin; none: it has none of its own."""
    chain: str
    """Of iptables' table nat, to which its rules in built-in chains lead."""
    table: str
    """Its own table of nftables."""


MAKERS = (
    RuleMaker("Docker", "dockerd", ("docker", "br-"), "DOCKER", "docker-bridges"),
    RuleMaker("kube-proxy", "kube-proxy", (), "KUBE-SERVICES", "kube-proxy"),
)


@dataclass(frozen=True)
class LostRules:
    """A program that runs here, and none of whose NAT rules is there."""

    program: str
    """Title of a :class:`RuleMaker`."""
    seen: str
    """``process 812``."""
    missing: str


@dataclass(frozen=True)
class BarePacket:
    """Packets of a container network that left by its own address, and were not answered."""

    protocol: str
    way: Tuple
    link: str
    count: int


@dataclass(frozen=True)
class BareNetwork:
    """A container network for which no NAT rule is, and one was."""

    network: BridgeNetwork
    program: str = ""
    """Whose rules those were, as far as that is known."""
    turned: Optional[Flow] = None
    """A flow from it to which NAT gave an address of this host."""
    heard: tuple[BarePacket, ...] = ()
    """At most eight ways."""


@dataclass(frozen=True)
class Wiped:
    """What is missing, and what shows that it was there."""

    lost: tuple[LostRules, ...] = ()
    networks: tuple[BareNetwork, ...] = ()
    flusher: str = ""
    """Who flushes the ruleset when it is started: a unit, with its line."""
    firewalld: bool = False
    """It runs: Docker makes its rules again when that is reloaded."""
    listened: float = 0.0
    """Seconds; 0: nobody listened."""
    unread: tuple[str, ...] = ()


def watch(asking: Asking) -> Watch[Wiped]:
    """Look for networks without their rules, and listen to them; with a window of 0 nobody listens.

    Raises Unreadable where rules, flows or packets may not be read.
    """
    found = _Search(asking).result()
    if asking.window <= 0 or not found.networks:
        return Unwatched(found)
    return _BareListener(asking, found)


class _BareListener(RingWatch):
    """What left of each network without an answer."""

    def __init__(self, asking: Asking, found: Wiped) -> None:
        self._asking, self._found = asking, found
        self._links = asking.earlier(Links) or Links()
        self._left: dict[tuple[int, bytes], tuple[int, int]] = {}
        self._answered: set[tuple[int, bytes]] = set()
        subnets = [each.network.subnet for each in found.networks]
        super().__init__(segments.of_networks(subnets), _BLOCKS, _AT_ONCE)

    def _take(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            way = segments.way_of(packet.content)
            if way is None:
                continue
            protocol = packet.content[9] if packet.content[0] >> 4 == 4 else packet.content[6]
            if not packet.outgoing:
                self._answered.add((protocol, segments.reversed_way(way)))
            elif (protocol, way) in self._left or len(self._left) < _WAYS:
                link, count = self._left.get((protocol, way), (packet.link, 0))
                # A port of a bridge is heard before the bridge, and a VLAN's parent after it.
                self._left[protocol, way] = (link, count + (packet.link == link))
        if len(self._answered) > _WAYS:
            self._answered &= self._left.keys()

    def finish(self) -> Wiped:
        """Return what is missing now, too: a program may have made its rules meanwhile."""
        listened = self._rest()
        now = _Search(self._asking, self._found).result()
        return Wiped(
            now.lost,
            tuple(
                BareNetwork(each.network, each.program, each.turned, tuple(self._bare(each)))
                for each in now.networks
            ),
            now.flusher,
            now.firewalld,
            listened,
            now.unread,
        )

    def _bare(self, bare: BareNetwork) -> Iterator[BarePacket]:
        """Yield what left of a network by a link that leads out, at most :data:`_KEPT` ways."""
        names = {6: "tcp", 17: "udp"}
        out = _ways_out(self._asking, bare.network.family)
        found = (
            BarePacket(names[protocol], segments.spell(raw), self._name(link), count)
            for (protocol, raw), (link, count) in self._left.items()
            if (protocol, raw) not in self._answered
        )
        local = self._links.local
        return islice(
            (
                packet
                for packet in found
                if packet.link in out
                and contains(bare.network.subnet, packet.way.source)
                and packet.way.source not in local
            ),
            _KEPT,
        )

    def _name(self, index: int) -> str:
        return self._links.name(self._links.of_rules(index))

    def close(self) -> None:
        self._ring.close()


def _ways_out(asking: Asking, family: int) -> tuple[str, ...]:
    """Return the links of the default routes; without one, all with an address that others use.

    Never a container network's own.
    """
    links, routes = asking.earlier(Links) or Links(), asking.earlier(Routes) or Routes()
    inner = {network.link for network in links.networks()}
    ways = [name for each in routes.defaults if each.family == family for name in each.links]
    ways = ways or [
        links.name(item.link)
        for item in links.addresses
        if item.family == family and item.scope == "global"
    ]
    return tuple(dict.fromkeys(way for way in ways if way not in inner and way != "lo"))


class _Search:
    """One look at what is missing."""

    def __init__(self, asking: Asking, before: Optional[Wiped] = None) -> None:
        """Look at all networks; ``before``: at those of an earlier look alone."""
        self._asking = asking
        links, netfilter = asking.earlier(Links), asking.earlier(Netfilter)
        if links is None or netfilter is None:
            raise Unreadable("links or rules could not be read")
        self._netfilter = netfilter
        self._local = links.local
        self._all = links.networks()
        self._before = before
        if before is not None:
            self._all = tuple(each.network for each in before.networks)
        self._unread: list[str] = []

    def result(self) -> Wiped:
        """Return it; nothing is read where each network has its rules. Raises Unreadable."""
        docker = MAKERS[0]
        plain = [network for network in self._all if not self._sourced(network.family)]
        named = [n for n in self._all if n not in plain and n.link.startswith(docker.links)]
        if not plain and not named:
            return Wiped()
        if self._netfilter.unread:
            return Wiped(unread=self._netfilter.unread)
        stores, unread = open_stores(self._asking.deadline())
        if unread:
            return Wiped(unread=tuple(unread))
        gone = [maker for maker in MAKERS if not _holds(stores, maker)]
        if docker in gone:
            plain += [network for network in named if network.family == _OF_MAKERS]
        bare = [network for network in plain[:_NETWORKS] if not self._covered(network)]
        return self._told(bare, gone) if bare else Wiped(unread=tuple(self._unread))

    def _sourced(self, family: int) -> bool:
        """Tell whether any rule turns the sources of what leaves, in an IP version."""
        return any(
            use.family in ("inet", "ip6" if family == 6 else "ip")
            for use in self._netfilter.nat_uses
            if use.hook == "postrouting" and use.action in _TURNS_SOURCES
        )

    def _covered(self, network: BridgeNetwork) -> bool:
        """Tell whether a rule may turn what this network sends out, or was not understood."""
        out = _ways_out(self._asking, network.family)
        packet = Match(sources=(network.subnet,), out_interfaces=out)
        rules, unread = of_packets(self._asking, _TURNS_SOURCES, ("postrouting",), packet)
        self._unread += unread
        version = "ip6" if network.family == 6 else "ip"
        return bool(unread) or any(
            version in rule.versions and conjoin(rule.match, packet) is not None for rule in rules
        )

    def _told(self, bare: list[BridgeNetwork], gone: list[RuleMaker]) -> Wiped:
        """Return the networks that had rules, and the programs that have lost theirs."""
        here = owners.read(self._asking)
        self._unread += here.unread
        seen = {writer.name: writer.seen for writer in here.writers}
        lost = [
            LostRules(
                maker.title,
                seen[maker.process],
                f"a jump to chain {maker.chain} of nat, and table {maker.table}",
            )
            for maker in gone
            if maker.process in seen and self._makes(maker, seen[maker.process])
        ]
        titles = {each.program for each in lost}
        turned = self._turned(bare)
        networks = []
        for network in bare:
            program = next(
                (m.title for m in gone if m.links and network.link.startswith(m.links)), ""
            )
            lacks = program in titles and network.family == _OF_MAKERS
            if lacks or network in turned:
                networks.append(BareNetwork(network, program, turned.get(network)))
        return Wiped(
            tuple(lost),
            tuple(networks),
            next((f"{w.name} ({w.seen})" for w in here.writers if "flush" in w.seen), ""),
            "firewalld" in seen,
            0.0,
            tuple(dict.fromkeys(self._unread)),
        )

    def _turned(self, bare: list[BridgeNetwork]) -> dict[BridgeNetwork, Flow]:
        """Return for each network a flow to which NAT gave an address of this host."""
        if self._before is not None:
            earlier = ((each.network, each.turned) for each in self._before.networks)
            return {network: flow for network, flow in earlier if flow is not None}
        found: dict[BridgeNetwork, Flow] = {}
        if not _tracked():
            return found
        try:
            with Netlink(NETLINK_NETFILTER, self._asking.deadline()) as client:
                for entry in islice(conntrack.turned_sources(client), _TURNED):
                    flow = conntrack_entry.flow_of(entry)
                    network = self._of(bare, flow)
                    if network is not None:
                        found.setdefault(network, flow)
                    if len(found) == len(bare):
                        break
        except OSError as error:
            raise conntrack.not_permitted(error) from error
        return found

    def _of(self, bare: Collection[BridgeNetwork], flow: Flow) -> Optional[BridgeNetwork]:
        if flow.reply.destination not in self._local or flow.zone:
            return None
        source = flow.original.source
        return next((each for each in bare if contains(each.subnet, source)), None)

    def _makes(self, maker: RuleMaker, seen: str) -> bool:
        """Tell whether a program is set to make its rules."""
        if maker.process != "dockerd":
            return True
        argv = _argv(seen.rpartition(" ")[2])
        path = next((w.partition("=")[2] for w in argv if w.startswith("--config-file=")), "")
        if "--config-file" in argv[:-1]:
            path = argv[argv.index("--config-file") + 1]
        try:
            with open(owners.ROOT + (path or _CONFIGURATION), encoding="utf-8") as file:
                settings = json.loads(file.read())
        except FileNotFoundError:
            settings = {}
        except (OSError, ValueError) as error:
            self._unread.append(f"{path or _CONFIGURATION}: {error}")
            return False
        written = settings.get("iptables", True) if isinstance(settings, dict) else True
        return written is not False and "--iptables=false" not in argv


def _tracked() -> bool:
    """Tell whether conntrack holds any flow: to ask it would load its modules."""
    try:
        return sysctl.value("net.netfilter.nf_conntrack_count") != "0"
    except OSError:
        return False


def _argv(pid: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().split("\0")
    except OSError:
        return []


def _holds(stores: Iterable[RuleStore], maker: RuleMaker) -> bool:
    """Tell whether a rule of a built-in chain leads to a program's own, or its table has chains.

    Raises Unreadable.
    """
    for store in stores:
        if ("ip", maker.table) in store.tables():
            return True
        for base in store.bases():
            if base.type != "nat" or base.family != "ip" or not base.rules:
                continue
            for rule in store.raw(base.family, base.table, base.chain):
                if maker.chain in store.targets(base.family, base.table, rule):
                    return True
    return False
