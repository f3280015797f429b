"""Addresses of conntrack flows that are deleted: written by a fix, read by the driver. Pure.

``flow:udp/SOURCE/PORT/DESTINATION/PORT``
    one flow, by its original direction.
``flow:udp/LINK/PORT``
    the flows of the hosts behind a link with our port that were begun before requests to it were
    redirected, whichever there are when it is carried out.
``flow:PROTOCOL/SOURCE/PORT/DESTINATION/PORT/TARGET/PORT/ID`` (and ``/answered``)
    the one entry of UDP or TCP with this id that goes on to a target, in the default conntrack
    zone: a resource of its own, of which nothing can be put back.
"""

from __future__ import annotations

from typing import Union

from remedies.errors import InputError
from remedies.printable import at, both_ends
from remedies.values import NamedTuple


class Exact(NamedTuple):
    """One flow, by its original direction."""

    source: str
    source_port: int
    destination: str
    destination_port: int


class LinkFlows(NamedTuple):
    """The flows of the hosts behind a link with one of our ports."""

    link: str
    port: int


class StuckFlow(NamedTuple):
    """One entry of conntrack, which goes on to a target that today's rules do not give."""

    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    target: str
    target_port: int
    number: int
    """The kernel's id of it."""
    answered: bool = False
    """It was answered before; one that is answered since is another one."""

    @property
    def ends(self) -> tuple[str, int, str, int]:
        """Return its original direction."""
        return self.source, self.source_port, self.destination, self.destination_port

    @property
    def path(self) -> str:
        """Return its path, without ``flow:``."""
        words = (self.protocol, *self.ends, self.target, self.target_port, self.number)
        return "/".join(map(str, words)) + (_ANSWERED if self.answered else "")


_ANSWERED = "/answered"


def split(path: str) -> Union[Exact, LinkFlows, StuckFlow]:
    """Return what a path (without ``flow:``) names; raise InputError where it names no flow."""
    bare = path[: -len(_ANSWERED)] if path.endswith(_ANSWERED) else path
    protocol, *words = bare.split("/")
    try:
        if protocol in ("tcp", "udp") and len(words) == 7:
            return StuckFlow(
                protocol,
                _address(words[0]),
                _port(words[1]),
                _address(words[2]),
                _port(words[3]),
                _address(words[4]),
                _port(words[5]),
                _number(words[6], 1 << 32),
                bare != path,
            )
        if protocol == "udp" and len(words) == 2 and words[0]:
            return LinkFlows(words[0], _port(words[1]))
        if protocol == "udp" and len(words) == 4:
            return Exact(words[0], _port(words[1]), words[2], _port(words[3]))
    except ValueError as error:
        raise InputError(f"flow:{path}: {error}") from None
    raise InputError(f"flow:{path} names no flow", "udp/SOURCE/PORT/DESTINATION/PORT")


def _address(text: str) -> str:
    if not text or not set(text) <= set("0123456789abcdef.:"):
        raise ValueError(f"{text!r} is not an address")
    return text


def _port(text: str) -> int:
    return _number(text, 1 << 16, "a port")


def _number(text: str, end: int, what: str = "an id") -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 11 and int(text) < end):
        raise ValueError(f"{text!r} is not {what}")
    return int(text)


def text(address: str) -> str:
    """Return what carrying out an effect does, for people; the address where it is no flow's."""
    scheme, _, path = address.partition(":")
    if scheme != "flow":
        return address
    named = split(path)
    if isinstance(named, LinkFlows):
        return (
            f"deletes every other unreplied flow of hosts behind {named.link} with port "
            f"{named.port} of this host that still takes the old path"
        )
    if isinstance(named, StuckFlow):
        return f"deletes the flow {name(path)}"
    return f"deletes the unreplied flow udp {both_ends(*named)}"


def name(path: str) -> str:
    """Return one flow for people, its path without ``flow:``; raise InputError."""
    named = split(path)
    if isinstance(named, StuckFlow):
        said = "answered before" if named.answered else "unanswered"
        to = at(named.target, named.target_port)
        return f"{named.protocol} {both_ends(*named.ends)}, which goes to {to}, {said}"
    return f"udp {both_ends(*named)}" if isinstance(named, Exact) else f"udp {path}"
