"""``--packet``: one conversation, by what its requests are. Pure.

::

    udp from 172.17.0.2 to 10.21.17.99:4000
    tcp to [2001:db8::7]:443
    from 172.17.0.2
    tcp to web:80

A name, also as ``docker://web``, is a container's or a network namespace's.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Optional

from remedies.errors import UsageError
from remedies.netlink.flow import Tuple
from remedies.printable import at
from remedies.values import dataclass

FORM = "[tcp|udp|icmp|icmpv6] [from ADDRESS|NAME[:PORT]] [to ADDRESS|NAME[:PORT]]"
_WORDS = re.compile(
    r"(?P<protocol>tcp|udp|icmp|icmpv6)?\s*(?:\bfrom\s+(?P<source>\S+))?\s*"
    r"(?:\bto\s+(?P<destination>\S+))?"
)
_END = re.compile(r"\[(?P<six>[^]]+)\](?::(?P<port>\d+))?|(?P<four>[\d.]+)(?::(?P<fourport>\d+))?")
_NAME = re.compile(
    r"(?:docker://)?(?=.*[A-Za-z])(?P<name>[A-Za-z0-9][\w.-]*)(?::(?P<port>\d+))?", re.ASCII
)
"""As Docker names containers; what is an address is none."""


@dataclass(frozen=True)
class PacketFilter:
    """Which requests are asked about; what is empty or None may be anything."""

    protocol: str = ""
    source: str = ""
    source_port: Optional[int] = None
    destination: str = ""
    destination_port: Optional[int] = None
    source_name: str = ""
    """Of a container or a namespace, to be looked up (:mod:`remedies.trace.packet_ends`)."""
    destination_name: str = ""

    def takes(self, protocol: str, way: Optional[Tuple]) -> bool:
        """Tell whether a packet is a request of the conversation, or an answer in it."""
        if way is None or (self.protocol not in ("", protocol)):
            return False
        return self.is_request(way) or self.is_request(way.reversed)

    def is_request(self, way: Tuple) -> bool:
        """Tell whether a way is the direction of the conversation's requests."""
        wanted = (self.source or None, self.source_port, self.destination or None,
                  self.destination_port)  # fmt: skip
        return all(want in (None, got) for want, got in zip(wanted, way.parts))

    def __str__(self) -> str:
        """Return it as it can be given."""
        parts = [self.protocol]
        for word, end, port in (
            ("from", self.source or self.source_name, self.source_port),
            ("to", self.destination or self.destination_name, self.destination_port),
        ):
            if end:
                parts += [word, at(end, port) if port is not None else end]
        return " ".join(part for part in parts if part)


def parse(text: str) -> PacketFilter:
    """Return what a text asks for; raise UsageError where it is no such text."""
    found = _WORDS.fullmatch(text.strip())
    if not text.strip() or found is None:
        raise UsageError(f"--packet {text!r} is not understood", f"write {FORM}")
    source, source_name, source_port = _end(found["source"], text)
    destination, destination_name, destination_port = _end(found["destination"], text)
    if source and destination and (":" in source) != (":" in destination):
        raise UsageError(f"--packet {text!r} has an IPv4 and an IPv6 address", f"write {FORM}")
    return PacketFilter(
        found["protocol"] or "",
        source,
        source_port,
        destination,
        destination_port,
        source_name,
        destination_name,
    )


def _end(text: Optional[str], whole: str) -> tuple[str, str, Optional[int]]:
    """Return address, name and port of an end: one of the first two is empty, or both."""
    if not text:
        return "", "", None
    found, named = _END.fullmatch(text), _NAME.fullmatch(text)
    if found is None and named is not None and not _is_address(text):
        return "", named["name"], _port(named["port"], whole)
    address = text if found is None else found["six"] or found["four"]
    port = None if found is None else found["port"] or found["fourport"]
    try:
        return str(ipaddress.ip_address(address)), "", _port(port, whole)
    except ValueError as error:
        raise UsageError(f"--packet {whole!r}: {error}", f"write {FORM}") from None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _port(text: Optional[str], whole: str) -> Optional[int]:
    if text is not None and int(text) > 65535:
        raise UsageError(f"--packet {whole!r}: {text} is not a port", f"write {FORM}")
    return None if text is None else int(text)
