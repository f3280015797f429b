"""Addresses of conntrack flows that an effect deletes: written by a fix, read by the driver. Pure.

``flow:udp/SOURCE/PORT/DESTINATION/PORT``
    one flow, by its original direction.
``flow:udp/LINK/PORT``
    the flows of the hosts behind a link with our port that were begun before requests to it were
    redirected, whichever there are when it is carried out.
"""

from __future__ import annotations

from typing import Union

from remedies.errors import InputError
from remedies.printable import both_ends
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


def split(path: str) -> Union[Exact, LinkFlows]:
    """Return what a path (without ``flow:``) names; raise InputError where it names no flow."""
    protocol, *words = path.split("/")
    try:
        if protocol == "udp" and len(words) == 2 and words[0]:
            return LinkFlows(words[0], _port(words[1]))
        if protocol == "udp" and len(words) == 4:
            return Exact(words[0], _port(words[1]), words[2], _port(words[3]))
    except ValueError as error:
        raise InputError(f"flow:{path}: {error}") from None
    raise InputError(f"flow:{path} names no flow", "udp/SOURCE/PORT/DESTINATION/PORT")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError(f"{text!r} is not a port")
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
    return f"deletes the unreplied flow udp {both_ends(*named)}"


def name(path: str) -> str:
    """Return one flow for people, its path without ``flow:``; raise InputError."""
    named = split(path)
    return f"udp {both_ends(*named)}" if isinstance(named, Exact) else f"udp {path}"
