"""What a dropped packet is about, beside the kernel's reason: its flow, rule, route and sockets.

A reason alone ("no socket takes it") leaves the work to the reader. Each is asked of the namespace
that the packet was dropped in, once for each kind, and within :class:`Looks`.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Optional

from remedies.conditions import helper_missing, idle_timeout
from remedies.facts import processes, sysctl
from remedies.facts.forgotten import LIMITS
from remedies.facts.strays import SYN, may_be
from remedies.facts.switches import key_of
from remedies.namespaces.netns import inside
from remedies.netlink import diag
from remedies.netlink.flow import Tuple
from remedies.netlink.route import Route, route_get
from remedies.netlink.socket import NETLINK_ROUTE, NETLINK_SOCK_DIAG, Netlink
from remedies.printable import at, both_ends
from remedies.rules.accepting import accepting
from remedies.rules.invalid_packet import EPHEMERAL
from remedies.rules.rule import PacketRule
from remedies.tap.lookups import Questions
from remedies.trace import cures
from remedies.trace.event import DropEvent
from remedies.trace.explain import waited_for, who
from remedies.trace.looks import Looks
from remedies.trace.missed_nat import missed
from remedies.trace.nat_rules import NatRules
from remedies.trace.socket_owners import Holders
from remedies.values import NamedTuple, replace

LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
_LISTENS = 10  # TCP_LISTEN, include/net/tcp_states.h
_PATIENCE = 0.5
_MOST_SOCKETS = 4
_REDIRECTS = ("icmp type 5 ", "icmpv6 type 137 ")
_RELATED = ("related", "related, reply")
_SIOCGIFMTU = 0x8921  # include/uapi/linux/sockios.h


class Tie(NamedTuple):
    """What was found out about a drop."""

    about: tuple[str, ...] = ()
    fix: str = ""
    condition: str = ""


class DropTies:
    """Finds out what else there is to say about a drop."""

    def __init__(self, questions: Questions, rules: NatRules, holders: Holders) -> None:
        """Ask nothing yet."""
        self._questions, self._rules, self._holders = questions, rules, holders
        self._looks = Looks()
        self.unread = self._looks.unread
        self.rules: dict[str, PacketRule] = {}
        """The rules that dropped packets, by how they are named."""
        self._asking: dict[str, Callable[[DropEvent, Tuple], Tie]] = {
            "NETFILTER_DROP": self._by_netfilter,
            "NO_SOCKET": self._no_socket,
            "IP_INADDRERRORS": self._not_forwarded,
            "IP_RPFILTER": self._reverse_path,
            "PKT_TOO_BIG": self._too_big,
            "SOCKET_RCVBUFF": self._too_slow,
            "NEIGH_FAILED": self._nobody,
        }

    def tie(self, drop: DropEvent, rule: Optional[PacketRule], traced: str = "") -> DropEvent:
        """Return a drop with what it is about and what to do.

        ``rule``: the one that dropped it; ``traced``: what nftables itself said of that.
        """
        if rule is not None:
            self.rules[rule.named] = rule
        named = replace(
            drop,
            rule="" if rule is None else rule.named,
            invalid=rule is not None and rule.action == "drop-invalid",
            look=cures.look(drop),
        )
        way = drop.way
        if way is None or drop.ordinary:
            return named
        tie = self._waited_for(named, way)
        tie = tie if tie.condition else self._one_way(named, rule, way)
        asking = self._asking.get(drop.sign)
        if not tie.condition and asking is not None and drop.namespace != "?":
            with_it = asking
            tie = (
                self._looks.take(f"about {drop.reason}", lambda: self._there(with_it, drop, way))
                or tie
            )
        sent, sent_by = ("", None) if drop.namespace else self._sent_here(drop, way)
        if tie.about and drop.sign == "NO_SOCKET":
            named = replace(named, means="no socket takes it")
        elif tie.about and drop.sign == "NETFILTER_DROP" and rule is None:
            named = replace(named, means="NAT drops it, no rule does", look="")
        if tie.condition:
            named = replace(named, look="")
        return replace(
            named,
            about=tuple(text for text in (traced, sent, *tie.about) if text),
            sent_by=sent_by,
            fix=tie.fix or ("" if rule is None else cures.of_rule(named, rule)),
            condition=tie.condition or cures.condition(named),
        )

    @staticmethod
    def _there(ask: Callable[[DropEvent, Tuple], Tie], drop: DropEvent, way: Tuple) -> Tie:
        with inside(drop.namespace) if drop.namespace else contextlib.nullcontext():
            return ask(drop, way)

    def _waited_for(self, drop: DropEvent, way: Tuple) -> Tie:
        """Return what is said of a packet that is for a client behind NAT, or nothing."""
        protocol, flags = drop.protocol.split()[0], SYN if drop.flags == "SYN" else 0
        if (
            drop.namespace
            or not may_be(drop.sign, protocol, way, flags, drop.conntrack)
            or not self._rules.is_local(way.destination)
        ):
            return Tie()
        awaited = self._questions.awaited(protocol, way)
        if awaited is None:
            return Tie()
        about = (waited_for(way, awaited),)
        if awaited.why == "forgotten":
            return Tie(about, idle_timeout.cure(way), "idle-timeout")
        passive = awaited.why == "passive"
        cure = helper_missing.cure(protocol, awaited.asked[1], passive=passive)
        return Tie(about, cure, "helper-missing")

    def _one_way(self, drop: DropEvent, rule: Optional[PacketRule], way: Tuple) -> Tie:
        """Return what is said of a segment that is INVALID for want of an answer, or nothing."""
        if rule is None or not drop.invalid:
            return Tie()
        flow = self._questions.flow("tcp", way)
        if flow is None or flow.seen_reply:
            return Tie()
        return Tie(
            (
                "conntrack has seen no answer of its connection: answers take another way than by "
                "this host",
            ),
            "lead both directions over this host, or let these by before that rule: "
            + accepting(rule, "tcp", way),
            "invalid-drop-harmful",
        )

    def _sent_here(self, drop: DropEvent, way: Tuple) -> tuple[str, Optional[PacketRule]]:
        """Return what was asked for before NAT sent the packet where it was dropped, or empty.

        And the rule that may have sent it, where conntrack has no flow that says more.
        """
        protocol = drop.protocol.split()[0]
        if drop.conntrack == "established, reply":
            answered = self._questions.flow(protocol, way)
            if answered is None:
                return "the answer to a connection that was begun from here", None
            return f"the answer to {protocol} {both_ends(*answered.original.parts)}", None
        if drop.conntrack not in ("new", "established"):
            return "", None
        flow = self._questions.flow(protocol, way)
        original = None if flow is None else flow.original
        if original is not None and original.parts[2:] != way.parts[2:]:
            asked = at(original.destination, original.destination_port)
            return f"its sender asked {asked}", None
        rule = self._rules.leading_to(protocol, way.destination, way.destination_port)
        return ("" if rule is None else f"sent there by {rule.named}"), rule

    def _no_socket(self, drop: DropEvent, way: Tuple) -> Tie:
        protocol = drop.protocol.split()[0]
        if protocol == "tcp" and drop.flags != "SYN":
            flow = None if drop.namespace else self._questions.flow("tcp", way)
            if drop.conntrack == "new":
                return forgotten(way)
            if flow is None:
                return Tie(("this host knows no such connection: it was closed, or never opened",))
            known = f"conntrack has its connection {both_ends(*flow.original.parts)}"
            if flow.nat and not drop.conntrack:
                return Tie(
                    (f"{known} and calls this segment INVALID, so that NAT did not rewrite it",),
                    f"sysctl -w {LIBERAL}=1; 'remedy plan' shows it as tcp-be-liberal",
                    "tcp-invalid-reset",
                )
            return Tie((known,))
        if protocol not in ("tcp", "udp") or not way.destination_port:
            return Tie()
        if protocol == "udp" and not drop.namespace:
            mine, process = self._holders.connected(way, self._rules.local())
            if mine is not None:
                told = f"{who(process)} has connected its socket to that client from "
                told += at(mine, way.destination_port)
                asked = at(way.destination, way.destination_port)
                cure = f"have it bind {asked}, or answer without connecting its socket"
                cure += ": 'remedy plan' shows bind-advice"
                return Tie((told,), cure, "udp-connected-server")
        past = None
        if not drop.namespace and (protocol == "udp" or not drop.conntrack):
            past = missed(self._questions, self._rules, protocol, way)
        if past is not None:
            return Tie((past.why,), past.fix, past.condition)
        name, port = protocol.upper(), way.destination_port
        others = tuple(dict.fromkeys(_listening(protocol, port, self.unread)))
        if others:
            about = f"{name} port {port} is open on {', '.join(others)}, not on {way.destination}"
        else:
            about = f"no process has {name} port {port} open on any address here"
        fix = cures.listen(protocol, port, others, way.destination)
        return Tie((about,), fix or "")

    def _by_netfilter(self, drop: DropEvent, way: Tuple) -> Tie:
        if not drop.protocol.startswith(_REDIRECTS) or drop.conntrack not in _RELATED:
            return Tie()
        # nf_nat_icmp_reply_translation(), net/netfilter/nf_nat_proto.c
        return Tie(
            (
                f"it is a redirect of a connection that NAT rewrites: what {way.destination} "
                "asked goes on by the link that it came by, to a neighbour",
                "the neighbour's answer must come back through NAT here: see whether "
                "net.bridge.bridge-nf-call-iptables is 1",
            )
        )

    def _not_forwarded(self, drop: DropEvent, way: Tuple) -> Tie:
        six = ":" in way.destination
        key = "ipv6/conf/all/forwarding" if six else "ipv4/ip_forward"
        if _number(key) == 0:
            text = f"net.{key.replace('/', '.')} is 0: this host forwards nothing"
            return Tie((text,), cures.forwarding(six))
        family = 6 if six else 4
        if drop.link and _number(f"ipv{family}/conf/{drop.link}/forwarding") == 0:
            key = key_of(drop.link, "forwarding", family)
            text = f"{key} is 0: nothing from {drop.link} is forwarded"
            return Tie((text,), f"sysctl -w {key}=1")
        return Tie((f"this host forwards, and has no route to {way.destination}",))

    def _reverse_path(self, drop: DropEvent, way: Tuple) -> Tie:
        own, every = (_number(f"ipv4/conf/{name}/rp_filter") for name in (drop.link, "all"))
        text = f"rp_filter is {max(own or 0, every or 0)} on {drop.link}, and "
        try:
            text += f"the way back to {way.source} is by {_link(_route(way.source))}"
        except OSError as error:
            text += f"there is no way back to {way.source}: {error.strerror}"
        fix = f"sysctl -w {key_of(drop.link, 'rp_filter')}=2, or a route to {way.source} by "
        return Tie((text,), f"{fix}{drop.link}")

    def _too_big(self, drop: DropEvent, way: Tuple) -> Tie:
        link = _link(_route(way.destination))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            asked = struct.pack("16sI12x", link.encode(), 0)
            mtu = struct.unpack_from("=I", fcntl.ioctl(any_socket, _SIOCGIFMTU, asked), 16)[0]
        fix = cures.smaller(drop.protocol.split()[0], link, mtu, ":" in way.source)
        return Tie((f"the way to {way.destination} is by {link}, whose MTU is {mtu}",), fix)

    def _too_slow(self, drop: DropEvent, way: Tuple) -> Tie:
        named = tuple(dict.fromkeys(_listening("udp", way.destination_port, self.unread)))
        if drop.protocol != "udp" or not named:
            return Tie()
        fix = "a larger SO_RCVBUF in the program, up to sysctl net.core.rmem_max; more readers"
        return Tie((f"port {way.destination_port} is read by {', '.join(named)}",), fix)

    def _nobody(self, _drop: DropEvent, way: Tuple) -> Tie:
        route = _route(way.destination)
        next_one = route.gateway or way.destination
        text = f"the next hop {next_one} on {_link(route)} does not answer"
        return Tie(
            (text,), f"start the machine or container that has {next_one}, or correct the route"
        )


def forgotten(way: Tuple) -> Tie:
    """Return what is said of a segment without a socket that conntrack takes for a new connection.

    It picks connections up in mid-stream (nf_conntrack_tcp_loose), so that it had forgotten this
    one: NAT would have sent it to whom it is for. Pure but for the time-outs of this namespace.
    """
    limits = []
    for limit in LIMITS:
        with contextlib.suppress(OSError, ValueError):
            limits.append((limit, int(sysctl.value(limit.key))))
    about = (
        "conntrack has forgotten its connection and takes it for a new one, so that NAT does not "
        "send it on: it was idle for longer than conntrack waits, or its flow was deleted"
    )
    keep = "let the programs use TCP keep-alive more often than conntrack waits"
    short = [f"{limit.key}={limit.least}" for limit, value in limits if value < limit.least]
    told = ", ".join(f"{limit.key} is {value} s" for limit, value in limits)
    if short and EPHEMERAL[0] <= way.destination_port <= EPHEMERAL[1]:
        return Tie(
            (f"{about} ({told})",), f"sysctl -w {' '.join(short)}, or {keep}", "idle-timeout"
        )
    return Tie((f"{about} ({told})" if told else about,), keep)


def _listening(protocol: str, port: int, unread: dict[str, None]) -> Iterator[str]:
    """Yield the addresses on which a port is open, with the process."""
    with Netlink(NETLINK_SOCK_DIAG, time.monotonic() + _PATIENCE) as client:
        found = [
            each
            for each in diag.by_local_port(client, protocol, port)
            if each.state == _LISTENS or (protocol == "udp" and not each.remote[1])
        ][:_MOST_SOCKETS]
    families = {each.inode: 6 if each.family == socket.AF_INET6 else 4 for each in found}
    seen, why = processes.look_up(families, time.monotonic() + _PATIENCE)
    unread.update(dict.fromkeys(why))
    for each in found:
        owner = seen[each.inode].owner if each.inode in seen else None
        name = f" ({owner.name}[{owner.pid}])" if owner is not None else ""
        yield f"{each.local[0]}{name}"


def _route(destination: str) -> Route:
    """Return the way to an address. Raises OSError where there is none."""
    with Netlink(NETLINK_ROUTE, time.monotonic() + _PATIENCE) as client:
        return route_get(client, destination)


def _link(route: Route) -> str:
    return socket.if_indextoname(route.link) if route.link else "no link"


def _number(key: str) -> Optional[int]:
    """Return a network setting of this namespace; None where there is none."""
    try:
        with open(f"/proc/sys/net/{key}", encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return None
