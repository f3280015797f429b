"""Proven findings of every condition that has a picture, as the laboratory shows them."""

from __future__ import annotations

import report_samples as samples
from report_samples import NOTRACK, REPLY, RESET, TIME, observation

from remedies.report.controls import controls
from remedies.report.record import Interface, Judgement, Report
from remedies.values import replace

CONNECTED = Judgement(
    id="7d7c0f65a3e94b12",
    condition="udp-connected-server",
    title="A UDP server that connected to its client no longer hears it",
    severity="high",
    controls=controls("udp-connected-server"),
    subject="udp 172.17.0.1:56789",
    outcome="fail",
    verdict="proven",
    message="nc connected to 172.17.0.2 as 172.17.0.1 port 56789, and does not hear what that "
    "client sends to 10.21.17.99",
    time=TIME,
    evidence=(
        observation(
            "conntrack",
            "request",
            "udp src=172.17.0.2 dst=10.21.17.99 sport=60218 dport=56789 [UNREPLIED]",
            "no reply seen",
        ),
        observation(
            "sock_diag",
            "connected",
            "172.17.0.1 port 56789 to 172.17.0.2 port 60218",
            "process 3959, nc",
        ),
    ),
    policy="policies/default.yaml:38",
    details={"process": "nc", "container": ""},
)
HAIRPIN = replace(
    REPLY,
    id="c41e7f55089b2ad3",
    condition="udp-proxy-hairpin",
    title="docker-proxy answers from another address than it was asked on",
    subject="udp 0.0.0.0:4000",
    message="docker-proxy of container dns (its port 53) was asked on 10.21.17.99 port 4000 and "
    "answered from 172.17.0.1: a connected client drops that",
    evidence=(
        *(
            replace(e, value=e.value.replace("56789", "4000").replace("57275", "41234"))
            for e in REPLY.evidence
        ),
        observation("sock_diag", "local address", "0.0.0.0:4000"),
        observation("docker", "172.17.0.3", "dns (4f1a09c3d2be)"),
    ),
    advice=(),
    details={
        "process": "docker-proxy",
        "container": "4f1a09c3d2be",
        "container_name": "dns",
        "container_address": "172.17.0.3",
        "container_port": "53",
    },
)
RULE = 'oifname != "docker0" ip saddr 172.17.0.0/16 masquerade'
MASQUERADE = replace(
    NOTRACK,
    id="0071ab99de52cc10",
    subject="nft ip lab_raw prerouting: udp dport 5060 notrack",
    outcome="fail",
    transaction="",
    message="the notrack rule 'udp dport 5060 notrack' keeps packets from the NAT rule",
    evidence=(
        observation("nft ip lab_raw prerouting", "notrack", "udp dport 5060 notrack"),
        observation(
            "nft ip lab_nat postrouting",
            "masquerade",
            RULE,
            "both see: udp from 172.17.0.0/16 to port 5060",
        ),
    ),
    details={"notrack": "udp dport 5060 notrack", "nat": RULE},
)
FROM_OUTSIDE = replace(
    RESET,
    id="5e2d4b673f1f0c9a",
    message="the host sent a reset to 10.21.17.1:47216 for a connection that NAT translates for "
    "10.21.17.1",
    evidence=(
        observation("nat hooks", "rule", "ip daddr 10.21.17.99 tcp dport 443 dnat to 172.17.0.2"),
        observation("packet socket", "reset sent", "10.21.17.99:443 -> 10.21.17.1:47216"),
        observation(
            "ctnetlink",
            "flow that owns it",
            "10.21.17.1:47216 -> 10.21.17.99:443",
            "reply 172.17.0.2:8443 -> 10.21.17.1:47216",
        ),
    ),
)
SIX = {
    "172.17.0.2": "2001:db8:1717:aaaa:bbbb:cccc:dddd:2222",
    "172.17.0.1": "2001:db8:1717:aaaa:bbbb:cccc:dddd:1111",
    "172.17.0.3": "2001:db8:1717:aaaa:bbbb:cccc:dddd:3333",
    "10.21.17.99": "2001:db8:1021:1799:eeee:ffff:9999:9999",
    "10.21.17.1": "2001:db8:1021:1799:eeee:ffff:9999:1111",
}
NAME = "a-container-with-a-very-long-name-indeed-" * 3
INTERFACES = (
    Interface("docker0", "bridge", "172.17.0.1", 16),
    Interface("eth0", "", "10.21.17.99", 24),
    Interface("br-0123456789ab", "bridge", SIX["172.17.0.1"], 64),
    Interface("enp0s31f6.1234", "", SIX["10.21.17.99"], 64),
)
PROVEN = (
    RESET, FROM_OUTSIDE, replace(REPLY, subject="udp 0.0.0.0:56789"), CONNECTED, HAIRPIN,
    MASQUERADE, NOTRACK,
)  # fmt: skip


def six(judgement: Judgement) -> Judgement:
    """Return a finding with the longest addresses and names in place of its own."""

    def longer(text: str) -> str:
        for four, address in SIX.items():
            for port in ("172", "443", "47216", "52110", "56789", "57275", "41234", "4000", "8443"):
                text = text.replace(f"{four}:{port}", f"[{address}]:{port}")
            text = text.replace(four, address)
        return text

    details = {key: longer(text) for key, text in judgement.details.items()}
    named = {key: NAME for key in ("process", "container", "container_name") if details.get(key)}
    return replace(
        judgement,
        id=f"6{judgement.id[1:]}",
        subject=longer(judgement.subject),
        message=longer(judgement.message),
        evidence=tuple(
            replace(e, value=longer(e.value), note=longer(e.note)) for e in judgement.evidence
        ),
        details={**details, **named},
    )


def proofs() -> Report:
    """Return the report of a host on which everything is proven, in both IP versions."""
    judgements = (*PROVEN, *(six(judgement) for judgement in PROVEN))
    host = replace(samples.HOST, judgements=judgements, interfaces=INTERFACES)
    return replace(samples.full(), hosts=(host,))
