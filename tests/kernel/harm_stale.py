"""Flows of the harm matrix that are older than the rules: a stale one, and those that are not.

Each probe changes the rules of one port under a flow, and sends on by it. Halfway the fix acts, if
it is looked at.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator, Sequence

from harm_site import AT, PATIENCE, Site
from harm_traffic import Probe, transfer, word

NOBODY = {4: "172.17.0.77", 6: "fd17::77"}
_RULES = """
table {ip} ports{port} {{
  chain pre {{ type nat hook prerouting priority -110;
    {ip} daddr {host} {protocol} dport {port} {does}
  }}
}}
"""


def turn(site: Site, version: int, protocol: str, port: int, targets: Sequence[str]) -> None:
    """Let NAT send one port of the host on to these addresses, in place of any before."""
    ip = "ip" if version == 4 else "ip6"
    table = f"table {ip} ports{port}"
    site.run("h", ["nft", "-f", "-"], stdin=f"{table} {{ }}\ndelete {table}\n")
    if not targets:
        return
    ways = ", ".join(f"{number} : {target}" for number, target in enumerate(targets))
    does = f"dnat to numgen random mod {len(targets)} map {{ {ways} }}"
    if len(targets) == 1:
        does = f"dnat to {targets[0]}"
    rules = _RULES.format(ip=ip, host=AT[version].host, protocol=protocol, port=port, does=does)
    site.run("h", ["nft", "-f", "-"], stdin=rules)


@contextlib.contextmanager
def _hearing(
    site: Site, version: int, port: int, *ends: tuple[str, str]
) -> Iterator[dict[str, socket.socket]]:
    """Give a silent server of each of these roles, bound to one of its addresses."""
    with contextlib.ExitStack() as opened:
        made = {}
        for role, name in ends:
            made[role] = opened.enter_context(
                site.socket(role, AT[version].family, socket.SOCK_DGRAM)
            )
            made[role].settimeout(PATIENCE)
            made[role].bind((getattr(AT[version], name), port))
        yield made


def one_way(port: int, before: Sequence[str], after: Sequence[str], to: str) -> Probe:
    """Return a probe of a client that is never answered: the rules lead elsewhere after a while.

    ``before`` and ``after``: names of addresses that NAT sends to (nothing: no rule). It lives
    where what it sends then arrives at ``to``, a role; for the word ``same``, where it did before.
    """

    def probe(site: Site, version: int) -> str:
        at = AT[version]
        named = {"nobody": NOBODY[version], "container": at.container, "sibling": at.sibling}
        ends = (("c", "container"), ("d", "sibling"), ("h", "host"))
        with (
            _hearing(site, version, port, *ends) as servers,
            site.socket("x", at.family, socket.SOCK_DGRAM) as client,
        ):
            turn(site, version, "udp", port, [named[name] for name in before])
            try:
                client.sendto(b"first", (at.host, port))
                first = _heard(servers) if before != ("nobody",) else ""
                turn(site, version, "udp", port, [named[name] for name in after])
                site.halfway(version)
                client.sendto(b"second", (at.host, port))
                return "lives" if _heard(servers) == (first if to == "same" else to) else "hangs"
            except OSError as error:
                return word(error)
            finally:
                turn(site, version, "udp", port, ())

    return probe


def _heard(servers: dict[str, socket.socket]) -> str:
    """Return who gets the next datagram. Raises TimeoutError where nobody does."""
    ready, _, _ = select.select(list(servers.values()), [], [], PATIENCE)
    if not ready:
        raise TimeoutError
    ready[0].recv(16)
    return next(role for role, server in servers.items() if server is ready[0])


def moved(port: int) -> Probe:
    """Return a probe of an open TCP connection whose port NAT sends elsewhere meanwhile."""

    def probe(site: Site, version: int) -> str:
        at = AT[version]
        turn(site, version, "tcp", port, [at.container])
        try:
            return transfer(
                "x", "c", "host", port, serves="container",
                between=lambda site, version: turn(site, version, "tcp", port, [at.sibling]),
            )(site, version)  # fmt: skip
        finally:
            turn(site, version, "tcp", port, ())

    return probe
