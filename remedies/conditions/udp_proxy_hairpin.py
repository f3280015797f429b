"""docker-proxy answers from another address of the host than it was asked on.

What it detects
    A docker-proxy that serves a published UDP port on every address and does not pick its
    replies' source (before Docker 28.0.0). A container that asks the host's address for a port
    that a container of its own network publishes is not matched by Docker's NAT rules, which
    leave out the bridge itself; docker-proxy takes the datagram, and its answer leaves with the
    bridge's address.

Why it matters
    The asking container's kernel refuses the answer unless its socket is unconnected. The same
    question from outside works, and so does the container's own address: "it works everywhere but
    between two containers of one network". Where docker-proxy serves clients outside as well (IPv6
    to a container that has IPv4 alone), one that asks a second address of the host meets it, too.

Evidence
    - ``proven``: the mirrored pair of flows (see ``udp-reply-source``), and a socket on that port
      whose process is docker-proxy: its arguments name the published port and the container.
    - ``exposed``: the socket, two addresses to ask or more, and no IP_PKTINFO on it.
    - ``mitigated``: our redirect stands before its port.

False positives
    Nobody may ever ask that way: ``exposed`` says that it would fail, not that it does. The pair
    outlives its fault by ``nf_conntrack_udp_timeout`` (30 s).

References
    moby/moby#48571 (IP_PKTINFO in docker-proxy, first in v28.0.0); moby/moby#15127;
    docker/libnetwork#1729
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.conditions import udp_reply_source
from remedies.facts import Facts
from remedies.facts.docker import Container, Docker
from remedies.facts.services import Service, services
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.links import Links
from remedies.rules.prefixes import contains
from remedies.values import replace

TITLE = "docker-proxy answers from another address than it was asked on"
SYMPTOM = "two containers of one network cannot use a published UDP port; everybody else can"
SEVERITY: Severity = "high"
AREA = "UDP answers"
CONTROLS = (
    "NIST-800-53 CM-6",
    "NIST-800-53 SI-2",
    "CIS-Docker-1.6.0 2.16",
    "STIG-Docker-Enterprise-2.x V-235791",
)
NEEDS = (*udp_reply_source.NEEDS, Docker)
PARAMS: Mapping[str, object] = {}

CONDITION = "udp-proxy-hairpin"


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding for each docker-proxy on every address that is exposed or proven."""
    return tuple(
        _of_container(facts, service, finding)
        for service in services(facts)
        if service.proxied
        and (finding := udp_reply_source.judge(facts, service, CONDITION)) is not None
    )


def published(argv: tuple[str, ...]) -> dict[str, str]:
    """Return docker-proxy's arguments by name: ``host-port``, ``container-ip``, ... without dash.

    Go's flag package takes one dash or two, and the value behind ``=`` or as the next word; a
    switch (``-use-listen-fd``) has none.
    """
    found: dict[str, str] = {}
    name = ""
    for word in argv[1:]:
        if word.startswith("-"):
            name, _, value = word.lstrip("-").partition("=")
            found[name] = value
        elif name:
            found[name], name = word, ""
    return found


def _of_container(facts: Facts, service: Service, finding: Finding) -> Finding:
    """Return the finding with the container that the port is published for."""
    owner = None if service.server is None else service.server.owner
    named = published(owner.argv if owner is not None else ())
    address, port = named.get("container-ip", ""), named.get("container-port", "")
    container = _named(facts, address)
    name = container.name if container is not None else ""
    whose = f" of container {name or address} (its port {port})" if address else ""
    evidence = finding.evidence
    if container is not None:
        evidence += (Evidence("docker", address, f"{name} ({container.id})"),)
    return replace(
        finding,
        message=finding.message.replace("docker-proxy", f"docker-proxy{whose}", 1),
        evidence=evidence,
        details={
            **finding.details,
            "container": container.id if container is not None else "",
            "container_name": name,
            "container_address": address,
            "container_port": port,
            "clients": _clients(facts, service),
        },
    )


def _clients(facts: Facts, service: Service) -> str:
    """Return ``outside`` where none of the clients seen is on a bridge of this host's, or empty."""
    links = facts.get(Links)
    bridged = [item.subnet for item in links.addresses if links.kind(item.link) == "bridge"]
    clients = [proof.request.original.source for proof in service.proofs]
    inside = any(contains(prefix, client) for prefix in bridged for client in clients)
    return "outside" if clients and not inside else ""


def _named(facts: Facts, address: str) -> Container | None:
    """Return the container that has ``address``; None where the daemon did not say."""
    docker = facts.known.get("docker")
    containers = docker.containers if isinstance(docker, Docker) else ()
    return next((c for c in containers if address in c.addresses), None)
