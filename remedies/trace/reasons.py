"""The kernel's own reason for each reset, from a private tracing instance.

Since Linux 6.10 the event tcp/tcp_send_reset is raised for every reset of the kernel's TCP, names
the tuple and has a ``reason``. Before that it is not raised where there is no socket; there
skb/kfree_skb (with a reason since 5.17) can only count how many packets the whole machine dropped
as NO_SOCKET: it names neither tuple nor namespace. Events are of the whole machine: the tuple
ties them to what the tap heard in this namespace.
"""

from __future__ import annotations

import os
import re
import socket
import time
from typing import Optional

from remedies.netlink.flow import Tuple
from remedies.trace.tracefs import Instance, uninterrupted

_RESET, _DROP = "events/tcp/tcp_send_reset", "events/skb/kfree_skb"
_KILOBYTES = 256
"""Of buffer for each processor: some 2,000 events."""
_MOST_AT_ONCE = 1 << 16
_MOST = 4096
_REASON = re.compile(r"\bsrc=(\S+) dest=(\S+) state=\S* reason=(\w+)")
_LOST = " EVENTS]"  # CPU:0 [LOST 12 EVENTS], print_trace_line()
_COUNTS = re.compile(r"^(?:entries|overrun|dropped events): (\d+)$", re.MULTILINE)
_CAUTION = 5.0
"""Seconds after a loss during which a missing reason says nothing."""
_PRINTED = re.compile(r"\{\s*(0x[0-9a-fA-F]+|\d+),\s*\"(\w+)\"\s*\}")
_FIELD = re.compile(r"^\tfield:.*?\b(\w+)(?:\[[^\]]*\])?;", re.MULTILINE)


def fields(description: str) -> frozenset[str]:
    """Return the field names of an event's ``format`` file."""
    return frozenset(_FIELD.findall(description))


def number_of(description: str, name: str) -> Optional[int]:
    """Return the number that a ``format`` file's print format prints as ``name``."""
    for number, printed in _PRINTED.findall(description):
        if printed == name:
            return int(number, 0)
    return None


def parse(line: str) -> Optional[tuple[Tuple, str]]:
    """Return tuple and reason of a tcp_send_reset line, None for any other line.

    ``src`` is where the reset leaves from.
    """
    found = _REASON.search(line)
    if found is None:
        return None
    try:
        source, destination = _end(found.group(1)), _end(found.group(2))
    except (ValueError, OSError):
        return None
    return Tuple(*source, *destination), found.group(3)


def _end(text: str) -> tuple[str, int]:
    """Return address and port of ``%pISpc``, spelled as inet_ntop() does."""
    address, _, port = text.rpartition(":")
    address = address.strip("[]")
    if address.startswith("::ffff:") and "." in address:
        address = address[len("::ffff:") :]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, address)), int(port)


class Reasons:
    """Reasons by tuple, in bounded memory. Where there can be none, ``source`` says why."""

    def __init__(self) -> None:
        """Begin with nothing; :meth:`begin` makes the instance."""
        self.source = "not asked for"
        self._every = False
        self._doubt = float("-inf")
        self.drops: Optional[int] = None
        """Packets the machine dropped as NO_SOCKET, where no tuple is named."""
        self._instance = Instance()
        self._pipe = -1
        self._rest = ""
        self._young: dict[Tuple, str] = {}
        self._old: dict[Tuple, str] = {}

    def begin(self) -> None:
        """Make the instance and switch its event on; without permission, say so in ``source``."""
        try:
            self._pipe = self._instance.make()
            self._instance.write("buffer_size_kb", str(_KILOBYTES))
            self._instance.write("options/context-info", "0")
            self._choose()
        except OSError as error:
            self.source = f"none: tracefs: {error.strerror}"
            self.close()

    def _choose(self) -> None:
        """Switch on the event that says most; see the module's docstring."""
        name = _RESET.rpartition("/")[2]
        if "reason" in fields(self._instance.read(f"{_RESET}/format")):
            self._instance.write(f"{_RESET}/enable", "1")
            self.source, self._every = f"tracefs: {name}", True
            return
        self.count_drops()

    def count_drops(self) -> None:
        """Count the machine's NO_SOCKET drops instead, chosen in the kernel. Raises OSError."""
        description = self._instance.read(f"{_DROP}/format")
        number = number_of(description, "NO_SOCKET")
        if "reason" not in fields(description) or number is None:
            self.source = "none: this kernel does not report them"
            return
        self._instance.write(f"{_DROP}/filter", f"reason == {number}")
        self._instance.write(f"{_DROP}/enable", "1")
        self.source, self.drops = "tracefs: kfree_skb, of the whole machine", 0

    def read(self) -> None:
        """Take in what the kernel has written, a bounded amount at once."""
        if self._pipe < 0:
            return
        left = _MOST_AT_ONCE
        while left > 0:
            try:
                text = os.read(self._pipe, min(left, 8192))
            except BlockingIOError:
                return
            if not text:
                return
            left -= len(text)
            *lines, self._rest = (self._rest + text.decode(errors="replace")).split("\n")
            for line in lines:
                self._take(line)
        self._doubt = time.monotonic()  # more is waiting than we may take

    def _take(self, line: str) -> None:
        if _LOST in line:
            self._doubt = time.monotonic()
            return
        if self.drops is not None and line.startswith("kfree_skb:"):
            self.drops += 1
            return
        found = parse(line)
        if found is None:
            return
        if len(self._young) >= _MOST:
            self._old, self._young = self._young, {}
        self._young[found[0]] = found[1]

    def of(self, way: Tuple) -> Optional[str]:
        """Return why the kernel sent a reset ``way``; None: it has not said."""
        return self._young.get(way) or self._old.get(way)

    def complete(self) -> bool:
        """Tell whether a reset of the kernel's TCP that was heard by now has its reason here."""
        return self._every and time.monotonic() - self._doubt > _CAUTION

    def lost(self) -> int:
        """Return how many events found no room in the buffer, or were never read."""
        if self._pipe < 0:
            return 0
        total = 0
        for processor in self._instance.names("per_cpu"):
            counts = _COUNTS.findall(self._instance.read(f"per_cpu/{processor}/stats"))
            total += sum(map(int, counts))
        return total

    def close(self) -> None:
        """Remove the instance, uninterrupted; safe to repeat."""
        with uninterrupted():
            pipe, self._pipe = self._pipe, -1
            if pipe >= 0:
                os.close(pipe)
            self._instance.remove()
