"""Reports for tests: one host with every outcome, hostile values, and fleets of any size."""

from __future__ import annotations

from remedies.report.controls import controls
from remedies.report.record import (
    Actor,
    Chain,
    Changed,
    Checked,
    Deed,
    HostReport,
    Interface,
    Judgement,
    Observation,
    Place,
    Reading,
    Report,
    Rollout,
    Series,
    Tool,
    Unreached,
    Waived,
)
from remedies.values import replace

TIME = "2026-11-20T18:00:00Z"
MARKUP = "<img src=x onerror=alert(1)>"
FORMULA = "=cmd|'/c calc'!A1"
ESCAPES = "eth0\x1b[2J\x1b]0;owned\x07\u202e\x00"
LONG = "c" * 4000
BREAKERS = "``` ]]> --> {{7*7}} {% x %} ${x} | \\ \" ' & \r\n@everyone [a](javascript:alert(1)) {0}"
HOSTILE = (MARKUP, FORMULA, ESCAPES, LONG, BREAKERS)

DIFF = """--- nft:inet/remedy_invalid_drop (now)
+++ nft:inet/remedy_invalid_drop (wanted)
@@ -0,0 +1,7 @@
+table inet remedy_invalid_drop {
+  chain input {
+    type filter hook input priority filter - 10; policy accept;
+    meta l4proto tcp ct state invalid counter drop comment "remedy:invalid-drop"
+  }
+}"""


def observation(source: str, key: str, value: str, note: str = "") -> Observation:
    return Observation(source, key, value, note, TIME)


RESET = Judgement(
    id="3f1f0c9a5e2d4b67",
    condition="tcp-invalid-reset",
    title="Segments outside the TCP window reset connections behind NAT",
    severity="critical",
    controls=controls("tcp-invalid-reset"),
    subject="tcp through NAT",
    outcome="fail",
    verdict="proven",
    message="the host sent a reset to 10.21.17.1:443 for a connection that NAT translates for "
    "172.17.0.2",
    time=TIME,
    evidence=(
        observation("nat hooks", "rule", 'ip saddr 172.17.0.0/16 oifname != "docker0" masquerade'),
        observation(
            "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal",
            "net.netfilter.nf_conntrack_tcp_be_liberal",
            "0",
        ),
        observation("/proc/net/stat/nf_conntrack", "invalid", "2", "moved in 1 s"),
        observation("/proc/net/snmp", "OutRsts", "1", "moved in 1 s"),
        observation(
            "packet socket", "reset sent", "10.21.17.99:47216 -> 10.21.17.1:443", "1 times"
        ),
        observation(
            "ctnetlink",
            "flow that owns it",
            "172.17.0.2:52110 -> 10.21.17.1:443",
            "reply 10.21.17.1:443 -> 10.21.17.99:47216",
        ),
    ),
    policy="policies/default.yaml:25",
)
REPLY = Judgement(
    id="9b2ad3c41e7f5508",
    condition="udp-reply-source",
    title="A UDP server answers from another address than it was asked on",
    severity="high",
    controls=controls("udp-reply-source"),
    subject="udp 0.0.0.0:56789",
    outcome="needs-human",
    verdict="proven",
    message="nc was asked on 10.21.17.99 port 56789 and answered from 172.17.0.1: "
    "a connected client drops that",
    time=TIME,
    evidence=(
        observation(
            "conntrack",
            "request",
            "udp src=172.17.0.2 dst=10.21.17.99 sport=57275 dport=56789 [UNREPLIED]",
            "no reply seen",
        ),
        observation(
            "conntrack",
            "reply",
            "udp src=172.17.0.1 dst=172.17.0.2 sport=56789 dport=57275 [UNREPLIED]",
            "another flow: no reply seen",
        ),
        observation("getsockopt", "IP_PKTINFO", "not set"),
    ),
    policy="policies/default.yaml:32",
    advice=("Bind to one address: Let nc (process 811) bind to 10.21.17.99:56789.",),
    details={"process": "nc", "container": ""},
)
NOTRACK = Judgement(
    id="52cc10ab99de0071",
    condition="notrack-breaks-nat",
    title="A notrack rule takes packets away from NAT",
    severity="high",
    controls=controls("notrack-breaks-nat"),
    subject="ip raw prerouting: udp dport 5353 notrack",
    outcome="fail",
    history="rolled-back",
    verdict="proven",
    message="the notrack rule 'udp dport 5353 notrack' keeps packets from NAT",
    time=TIME,
    transaction="20261120T175804Z-e59e",
    policy="policies/default.yaml:50",
    details={
        "notrack": "udp dport 5353 notrack",
        "nat": "iifname eth0 udp dport 5353 dnat to 172.17.0.9:53",
    },
)
OTHERS = (
    replace(
        REPLY,
        id="aa00",
        subject="udp 0.0.0.0:514",
        outcome="waived",
        verdict="exposed",
        severity="medium",
        waived="syslog never answers (netops, until 2027-03-31)",
        evidence=(),
        advice=(),
    ),
    Judgement(
        id="bb11",
        condition="conntrack-pressure",
        title="The connection tracking table is nearly full",
        severity="high",
        controls=controls("conntrack-pressure"),
        subject="",
        outcome="unknown",
        verdict="unknown",
        message="/proc/net/stat/nf_conntrack: Permission denied",
        time=TIME,
        thresholds={"threshold_percent": "80"},
    ),
    Judgement(
        id="cc22",
        condition="udp-connected-server",
        title="A UDP server that connected to its client no longer hears it",
        severity="high",
        controls=controls("udp-connected-server"),
        subject="",
        outcome="pass",
        verdict="absent",
        message="not found",
        time=TIME,
    ),
    Judgement(
        id="dd33",
        condition="udp-proxy-hairpin",
        title="docker-proxy answers from another address than it was asked on",
        severity="high",
        controls=controls("udp-proxy-hairpin"),
        subject="",
        outcome="not-applicable",
        verdict="off",
        message="switched off by policy",
        time=TIME,
    ),
)
CHANGE = Changed(
    resource="nft:inet/remedy_invalid_drop",
    fix="invalid-drop",
    finding=RESET.id,
    action="create",
    before=None,
    after="table inet remedy_invalid_drop {}",
    diff=DIFF,
    reversibility="exact",
    risk="moderate",
    impact="TCP segments that conntrack calls INVALID are dropped before the host answers them",
    boot=False,
    state="planned",
    undo="",
)
ACTOR = Actor(
    user="alice",
    login_uid="1000",
    uid="0",
    ssh_from="198.51.100.7",
    change_id="CHG0042",
    comment="resets during the nightly upload",
    approver="bob",
    command="remedy apply --change-id CHG0042",
)
DEED = Deed(
    id="20261120T174804Z-e59e",
    kind="apply",
    time="2026-11-20T17:48:04Z",
    ended="2026-11-20T17:48:06Z",
    seconds=2.0,
    outcome="applied",
    confirmation="confirmed",
    reason="",
    actor=ACTOR,
    tool="0.1.0",
    plan_id="8f14e45fceea167a",
    policy=("default",),
    policy_digest="23146f35f057aa0b" * 4,
    boot_id="b",
    undoes=(),
    changes=(replace(CHANGE, state="written", undo="remedy rollback 20261120T174804Z-e59e"),),
    stuck=(),
    checked=(Checked(RESET.id, RESET.condition, "proven", "mitigated"),),
)
UNDO = replace(
    DEED,
    id="20261120T175804Z-e59e",
    kind="rollback",
    time="2026-11-20T17:58:04Z",
    ended="2026-11-20T17:58:05Z",
    outcome="applied",
    confirmation="",
    undoes=(DEED.id,),
    checked=(),
    actor=replace(ACTOR, comment="", command="remedy rollback --yes"),
)
SERIES = tuple(
    Series(
        finding=RESET.id,
        condition=RESET.condition,
        key=key,
        unit="in 1 s",
        transaction=DEED.id,
        readings=(
            Reading("2026-11-20T17:48:00Z", "before", before),
            Reading("2026-11-20T17:48:06Z", "after", after),
            Reading(TIME, "now", after + 1),
        ),
    )
    for key, before, after in (
        ("/proc/net/stat/nf_conntrack invalid", 4.0, 3.0),
        ("/proc/net/snmp OutRsts", 2.0, 0.0),
    )
)
PLACE = Place(
    name="edge-07",
    machine_id="5f0c1d2e3b4a59687766554433221100",
    boot_id="9a0f6f6e-0000-4000-8000-000000000000",
    kernel="6.18.44",
    distribution="Debian GNU/Linux 12 (bookworm)",
    nft="nftables v1.0.6 (Lester Gooch #5)",
    iptables="iptables v1.8.9 (nf_tables)",
    clock="synchronised",
)
INTERFACES = (
    Interface("docker0", "bridge", "172.17.0.1", 16),
    Interface("eth0", "", "10.21.17.99", 24),
)
HOST = HostReport(
    place=PLACE,
    time=TIME,
    scanned=True,
    window=1.0,
    policy=("default", "docker-host"),
    policy_digest="23146f35f057aa0b" * 4,
    plan_id="8f14e45fceea167a",
    judgements=(RESET, REPLY, NOTRACK, *OTHERS),
    planned=(CHANGE,),
    deeds=(DEED, UNDO),
    series=SERIES,
    waivers=(
        Waived(
            "udp-reply-source", "udp *:514*", "2027-03-31", "syslog never answers", "netops", False
        ),
    ),
    interfaces=INTERFACES,
    warnings=("waiver of conntrack-pressure on '*' (netops) expired on 2026-01-01",),
    chain=Chain(9, "0b83b7c4b61f4bc0" * 4, "intact"),
)


def full() -> Report:
    """Return the report of one host, with every outcome but *fixed*."""
    return Report(
        tool=Tool("remedy", "0.1.0"),
        made=TIME,
        by=replace(ACTOR, command="remedy report -o html:report.html"),
        hosts=(HOST,),
        since="2026-10-21T18:00:00Z",
    )


def poisoned(value: str) -> Report:
    """Return the same report with one hostile value wherever a host, or a person, writes."""
    judgements = tuple(
        replace(
            j,
            subject=value,
            message=f"{value} was asked and answered",
            evidence=(
                *j.evidence,
                Observation("/proc", f"process {value}", value, value, TIME),
                Observation("conntrack", "request", value, value, TIME),
            ),
            transaction=DEED.id,
            waived=value if j.outcome == "waived" else None,
            advice=(value,),
            refused=(value,),
            mitigated_by=value,
            details={"process": value, "container": value, "notrack": value, "nat": value},
        )
        for j in HOST.judgements
    )
    change = replace(CHANGE, resource=f"sysctl:{value}", diff=f"+{value}\n-{value}", impact=value)
    deed = replace(
        DEED,
        actor=replace(
            ACTOR, comment=value, change_id=value, user=value, command=value, approver=value
        ),
        confirmation=value,
        changes=(change,),
        stuck=(value,),
        reason=value,
    )
    host = replace(
        HOST,
        place=replace(PLACE, name=value, distribution=value, kernel=value, hostname=value),
        rollout=Rollout("reverted", 3, TIME, message=value),
        judgements=judgements,
        planned=(change,),
        deeds=(deed,),
        series=tuple(replace(s, key=value) for s in SERIES),
        waivers=(Waived("udp-reply-source", value, "2027-03-31", value, value),),
        interfaces=(Interface(value, value, "172.17.0.1", 16),),
        warnings=(value,),
    )
    unreached = (Unreached(value, value),)
    return replace(full(), hosts=(host,), unreached=unreached, by=replace(ACTOR, user=value))


def fleet(number: int) -> Report:
    """Return a fleet of ``number`` hosts, some with faults, and one never reached."""
    hosts = []
    for i in range(number):
        quiet = replace(
            RESET, outcome="pass", verdict="absent", severity="critical", subject="", evidence=(),
            message="not found",
        )  # fmt: skip
        first = RESET if i % 17 == 0 else replace(RESET, outcome="fixed", verdict="mitigated")
        first = replace(first, transaction=f"{DEED.id}-{i}" if i % 5 == 0 else "")
        judgements = (first if i % 3 == 0 else quiet, *((REPLY,) if i % 29 == 0 else ()), *OTHERS)
        place = replace(PLACE, name=f"edge-{i:04}.example.net", machine_id=f"{i:032x}")
        deeds = (replace(DEED, id=f"{DEED.id}-{i}"),) if i % 5 == 0 else ()
        came = Rollout("confirmed" if deeds else "untouched", 0, TIME)
        hosts.append(
            replace(HOST, place=place, judgements=judgements, deeds=deeds, planned=(), rollout=came)
        )
    missing = (Unreached("edge-9999.example.net", "ssh: connect to port 22: timed out"),)
    return replace(full(), hosts=tuple(hosts), unreached=missing, run="20261120T174800Z-9f3c")
