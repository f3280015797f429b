"""Tell a person which program to bind to which address, and how.

What it changes
    Nothing: it is advice. It names the process, the unit or container it runs in, the port, and
    the address or addresses to bind instead of the wildcard. Nobody can make another program bind
    elsewhere from outside, and source NAT cannot repair its replies: each would be a flow of its
    own, with another port. For docker-proxy it names the container, and what helps there:
    publishing on one address, doing without the proxy, or Docker 28.0.0.

Safety
    Binding to one address makes the service deaf on the others: clients that use them must be
    told. A program with IP_PKTINFO support (an option, or a newer version) needs no binding.

What rollback restores
    Nothing was changed, so nothing is restored.

References
    ip(7): IP_PKTINFO. docker run(1): ``--publish ADDRESS:PORT:PORT/udp``. systemd.socket(5):
    ListenDatagram=. Kubernetes: Downward API (status.hostIP); kubernetes/kubernetes#95565.
"""

from __future__ import annotations

from typing import Optional, Union

from remedies.facts import Facts
from remedies.model import Advice, Finding, Risk, Terms, Wanted

TITLE = "Bind the server to the address its clients ask"
ANSWERS = ("udp-reply-source", "udp-connected-server", "udp-proxy-hairpin")
RISK: Risk = "low"
HARMLESS = True
NEEDS: tuple[type[object], ...] = ()
TOPICS: tuple[str, ...] = ()
PARAMS: dict[str, object] = {}
WRITES: tuple[str, ...] = ()

TEMPLATES = {"udp-proxy-hairpin": "proxy"}
"""By condition; ``bind`` for the others."""

_TEXTS = (
    "protocol",
    "port",
    "family",
    "process",
    "pid",
    "unit",
    "container",
    "container_name",
    "container_address",
    "container_port",
    "sends",
    "uplink",
    "clients",
)


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why there is nothing to advise on: no finding, or none that names a port."""
    if finding is None:
        return "bind-advice answers a finding; it cannot be required by itself"
    if not finding.details.get("port"):
        return f"{finding.subject} names no port to bind"
    return None


def desired(
    finding: Optional[Finding], facts: Facts, terms: Terms
) -> Union[tuple[Wanted, ...], Advice]:
    """Return the advice, as data for the template ``bind``, ``sends`` or ``proxy``.

    Its values: ``protocol``, ``port`` (text), ``family`` (``4`` or ``6``), ``addresses`` (a tuple:
    the ones that clients asked, else every local one they could ask), ``asked`` (True: clients
    were seen to ask these), ``process``, ``pid``, ``unit``, ``container``, ``pod`` (text, empty
    where not known; a pod only where it has the host's network), ``argv`` (a tuple), ``connects``
    (True: the server connects to its client), and ``place``: ``container``, ``unit``, ``process``
    or ``unknown``, the most useful of these names. For docker-proxy ``container_name``,
    ``container_address``, ``container_port`` and ``clients`` too. ``sends`` and ``uplink`` are
    those of the finding (``udp-reply-source``): a server that sets IP_PKTINFO or is bound already
    gets the template ``sends``.
    """
    if finding is None:
        return ()
    details = finding.details
    values: dict[str, object] = {key: details.get(key, "") for key in _TEXTS}
    # In a pod's own namespace the node's address is not to be had.
    values["pod"] = details.get("pod", "") if facts.host.netns == "host" else ""
    values["addresses"] = tuple(details.get("addresses", "").split())
    values["asked"] = bool(details.get("asked"))
    values["argv"] = tuple(word for word in details.get("argv", "").split("\n") if word)
    values["connects"] = details.get("server") == "connected"
    values["place"] = next(
        (key for key in ("container", "unit", "process") if details.get(key)), "unknown"
    )
    template = TEMPLATES.get(finding.condition, "sends" if details.get("sends") else "bind")
    who = details.get("process") or "the server"
    if template == "proxy":
        whose = details.get("container_name") or details.get("container_address") or "the container"
        title = f"publish UDP port {details['port']} of {whose} on one address"
    elif template == "sends":
        title = f"let {who} ({finding.subject}) answer from the address that was asked"
    else:
        title = f"bind {who} ({finding.subject}) to one address"
    return Advice(
        fix="bind-advice",
        finding=finding.id,
        title=title,
        template=template,
        values=values,
    )


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what advice does to traffic."""
    return "none: advice changes nothing"
