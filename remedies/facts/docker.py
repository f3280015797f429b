"""Which container has which address, asked of the daemon where a docker-proxy serves a UDP port."""

from __future__ import annotations

import json
from typing import Any

from remedies.facts import Asking
from remedies.facts.flows import Flows
from remedies.facts.services import PROXY
from remedies.facts.sockets import Sockets
from remedies.namespaces.containers import answers
from remedies.namespaces.containers import parse as names_of
from remedies.values import dataclass

AFTER = ("sockets", "flows")


@dataclass(frozen=True)
class Container:
    """One running container."""

    id: str
    """12 hex digits."""
    name: str
    addresses: tuple[str, ...] = ()
    """In its networks, IPv4 and IPv6."""


@dataclass(frozen=True)
class Docker:
    """What the daemon says; empty where it was not asked."""

    containers: tuple[Container, ...] = ()
    unread: tuple[str, ...] = ()
    """Why a daemon that is there did not answer."""


def read(asking: Asking) -> Docker:
    """Ask where a docker-proxy may answer from a wrong address, or the flow table fills up.

    Never raises.
    """
    sockets = asking.earlier(Sockets)
    held = () if sockets is None else sockets.wildcard
    flows = asking.earlier(Flows)
    proxied = any(s.owner is not None and s.owner.name == PROXY and not s.pktinfo for s in held)
    if not proxied and not (flows is not None and flows.sources):
        return Docker()

    unread: list[str] = []
    found = tuple(each for answer in answers(unread) for each in parse(answer))
    return Docker(found, tuple(unread))


def parse(answer: bytes) -> tuple[Container, ...]:
    """Return the containers of an answer to GET /containers/json; nothing of any other answer.

    Docker Engine API, "List containers": ``NetworkSettings.Networks``.
    """
    names = names_of(answer)
    listed = json.loads(answer.partition(b"\r\n\r\n")[2]) if names else ()
    return tuple(
        Container(container, names[container], _addresses(entry))
        for entry in listed
        if isinstance(entry, dict) and (container := str(entry.get("Id"))[:12]) in names
    )


def _addresses(entry: dict[str, Any]) -> tuple[str, ...]:
    settings = entry.get("NetworkSettings")
    networks = settings.get("Networks") if isinstance(settings, dict) else None
    return tuple(
        address
        for network in (networks.values() if isinstance(networks, dict) else ())
        if isinstance(network, dict)
        for address in (network.get("IPAddress"), network.get("GlobalIPv6Address"))
        if isinstance(address, str) and address
    )
