"""Tell a person who fills the flow table, and what makes room.

What it changes
    Nothing: it is advice. It names the address, the container, the protocol and the state that own
    most of the table, the time-out that keeps such flows, and the size of the table. Whether a
    source is an attack, a fault or the purpose of the host is not to be seen from its flows.

Safety
    A shorter time-out makes idle connections of that state be forgotten sooner; a larger table
    takes kernel memory that cannot be swapped.

What rollback restores
    Nothing was changed, so nothing is restored.

References
    Documentation/networking/nf_conntrack-sysctl.rst of the kernel: nf_conntrack_max and the
    time-outs by state.
"""

from __future__ import annotations

from typing import Optional, Union

from remedies.facts import Facts
from remedies.facts.slab import KNOWN
from remedies.model import Advice, Finding, Risk, Terms, Wanted

TITLE = "Make room in the flow table"
ANSWERS = ("conntrack-pressure",)
RISK: Risk = "low"
HARMLESS = True
NEEDS: tuple[type[object], ...] = ()
TOPICS: tuple[str, ...] = ()
PARAMS: dict[str, object] = {}
WRITES: tuple[str, ...] = ()

_TEXTS = (
    "source",
    "source_container",
    "source_flows",
    "source_protocol",
    "source_state",
    "process",
    "protocol",
    "address",
    "port",
)
_TIMEOUTS = {
    "SYN_SENT2": "tcp_timeout_syn_sent",
    "NONE": "tcp_timeout_syn_sent",
    **{
        state: f"tcp_timeout_{state.lower()}"
        for state in ("SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT")
    },
    **{state: f"tcp_timeout_{state.lower()}" for state in ("LAST_ACK", "TIME_WAIT", "CLOSE")},
}
_OTHERS = {"udp": "udp_timeout", "icmp": "icmp_timeout", "icmpv6": "icmpv6_timeout"}


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why there is nothing to advise on: no finding."""
    if finding is None:
        return "flow-advice answers a finding; it cannot be required by itself"
    return None


def desired(
    finding: Optional[Finding], facts: Facts, terms: Terms
) -> Union[tuple[Wanted, ...], Advice]:
    """Return the advice, as data for the template ``pressure``.

    Its values are texts, empty where not known: ``source`` (the address that began most flows),
    ``source_container`` (its name), ``source_flows``, ``source_protocol``, ``source_state``;
    ``address``, ``protocol``, ``port`` and ``process`` of the local service that owns most;
    ``timeout`` (the sysctl that keeps such flows); and ``bytes`` (of kernel memory a flow).
    """
    if finding is None:
        return ()
    values: dict[str, object] = {key: finding.details.get(key, "") for key in _TEXTS}
    state, protocol = str(values["source_state"]), str(values["source_protocol"])
    key = _TIMEOUTS.get(state) if protocol == "tcp" else _OTHERS.get(protocol)
    values["timeout"] = f"net.netfilter.nf_conntrack_{key}" if key else ""
    values["bytes"] = str(KNOWN)
    return Advice(
        fix="flow-advice",
        finding=finding.id,
        title="make room in the flow table",
        template="pressure",
        values=values,
    )


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what advice does to traffic."""
    return "none: advice changes nothing"
