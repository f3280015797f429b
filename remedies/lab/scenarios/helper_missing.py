"""FTP in active mode hangs at the first listing: nothing assigns the helper that NAT needs for it.

A container is logged in at an FTP server outside, through the host's NAT, and has told it the port
on which it waits for data. The server opens that connection from port 20, to the host: conntrack
does not expect it, no socket of the host has the port, and it is refused.

In the healthy twin a rule assigns the helper, which reads the port from the session.
"""

from __future__ import annotations

import socket

from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import DEADLINE, TrafficOutcome, World

CONDITION = "helper-missing"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

TABLE = "lab_helper"
_AGAIN = 5
"""Transfers that are tried: what watches beside it hears one of them at least."""


def build(world: World) -> None:
    """Start the server, and in the healthy twin assign the helper."""
    container_host(world)
    world.start("server", ["remedies.lab.ftp_server", addresses(world).server])
    if world.options.healthy:
        assign(world)


def assign(world: World) -> None:
    """Add the rule that an owner of the firewall adds."""
    world.run("host", ["nft", "-f", "-"], (
        f'table inet {TABLE} {{\n ct helper ftp {{\n  type "ftp" protocol tcp\n }}\n'
        " chain pre {\n  type filter hook prerouting priority 0\n"
        '  tcp dport 21 ct helper set "ftp"\n }\n}\n'
    ))  # fmt: skip


def traffic(world: World) -> TrafficOutcome:
    """Ask for a listing from the container, and wait for the server's connection."""
    at = addresses(world)
    with (
        world.socket("client", at.family, socket.SOCK_STREAM) as control,
        world.socket("client", at.family, socket.SOCK_STREAM) as waiting,
    ):
        control.settimeout(DEADLINE)
        control.connect((at.server, 21))
        # The helper reads what begins a line, and knows that of no session's first segment.
        _tell(control, "USER lab")
        waiting.bind((control.getsockname()[0], 0))
        waiting.listen(_AGAIN)
        waiting.settimeout(DEADLINE)
        here, port = waiting.getsockname()[:2]
        for _ in range(_AGAIN):
            _tell(control, f"EPRT |{2 if ':' in here else 1}|{here}|{port}|")
            answer = _tell(control, "NLST")
            if answer.startswith("150"):
                with waiting.accept()[0] as data:
                    return TrafficOutcome(data.recv(10) == b"listing", "a listing arrived")
    return TrafficOutcome(False, f"no listing: {answer}")


def _tell(control: socket.socket, command: str) -> str:
    """Send a command; return what the server says of it."""
    control.sendall(f"{command}\r\n".encode())
    return control.recv(100).decode().strip()


def story(story: Story) -> None:
    """Show the silence, name what is missing, and assign it."""
    story.fault("A container asks for a listing", "The cause, while it happens")
    story.person("The firewall's owner assigns the helper", lambda: assign(story.world))
    story.lives("The next listing")


def look(world: World) -> tuple[str, ...]:
    """Return the table that lacks an expectation."""
    return (f"{' '.join(world.entering('host'))} conntrack -L -p tcp",)
