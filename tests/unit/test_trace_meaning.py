"""What a packet proves, given flow, sockets and the kernel's reason; and the pace of telling."""

from __future__ import annotations

import socket

import pytest

from remedies.facts.pairs import Proof
from remedies.facts.process import Process
from remedies.netlink.flow import Flow, Tuple
from remedies.rules.rule import PacketRule
from remedies.tap.lookups import Awaited
from remedies.tap.whose import owner
from remedies.trace import explain, reasons
from remedies.trace.behind import Behind
from remedies.trace.missed_nat import MissedNat
from remedies.trace.rate_limit import Pace
from remedies.values import replace

CONTAINER, UPLINK, BRIDGE, SERVER = "172.17.0.2", "10.21.17.99", "172.17.0.1", "10.21.17.1"
LOCAL = frozenset((UPLINK, BRIDGE, "127.0.0.1"))
SERVED = Process(7, "udpd", unit="udpd.service")

MASQUERADED = Flow(
    "tcp", Tuple(CONTAINER, 5000, SERVER, 443), Tuple(SERVER, 443, UPLINK, 6000), True, True
)
PUBLISHED = Flow(
    "tcp", Tuple(SERVER, 7000, UPLINK, 80), Tuple(CONTAINER, 8080, SERVER, 7000), True, True
)
PLAIN = Flow("tcp", Tuple(SERVER, 7000, UPLINK, 80), Tuple(UPLINK, 80, SERVER, 7000), True, False)
REDIRECTED = Flow(
    "tcp", Tuple(CONTAINER, 7000, SERVER, 80), Tuple(BRIDGE, 3128, CONTAINER, 7000), True, True
)


@pytest.mark.parametrize(
    ("flow", "way", "end"),
    [
        (MASQUERADED, Tuple(UPLINK, 6000, SERVER, 443), CONTAINER),
        (PUBLISHED, Tuple(UPLINK, 80, SERVER, 7000), CONTAINER),
        (REDIRECTED, Tuple(SERVER, 80, CONTAINER, 7000), BRIDGE),
        (PLAIN, Tuple(UPLINK, 80, SERVER, 7000), None),
    ],
)
def test_the_owner_is_the_end_that_nat_would_have_sent_the_segment_to(
    flow: Flow, way: Tuple, end: str | None
) -> None:
    assert owner(flow, way.reversed) == end


@pytest.mark.parametrize("flow", [MASQUERADED, PUBLISHED])
@pytest.mark.parametrize(("reason", "answers"), [("NO_SOCKET", None), (None, True)])
def test_a_reset_for_a_flow_that_nat_owns_is_proof(
    flow: Flow, reason: str | None, answers: bool | None
) -> None:
    way = (
        Tuple(UPLINK, 6000, SERVER, 443) if flow is MASQUERADED else Tuple(UPLINK, 80, SERVER, 7000)
    )
    complete = reason is not None
    says = explain.reset(way, flow, LOCAL, reason, reasons_complete=complete, answers=answers)
    assert says.condition == "tcp-invalid-reset"
    assert says.text.startswith(
        f"reset sent to {SERVER}:{way.destination_port} for a flow that NAT translates for "
        f"{CONTAINER}"
    )


@pytest.mark.parametrize(
    ("flow", "way", "reason", "complete"),
    [
        (None, Tuple(UPLINK, 81, SERVER, 7000), "NO_SOCKET", True),
        (PLAIN, Tuple(UPLINK, 80, SERVER, 7000), "TCP_ABORT_ON_CLOSE", True),
        (REDIRECTED, Tuple(SERVER, 80, CONTAINER, 7000), None, False),  # the proxy's own reset
        (REDIRECTED, Tuple(SERVER, 80, CONTAINER, 7000), None, True),
        (MASQUERADED, Tuple(UPLINK, 6000, SERVER, 443), None, True),  # REJECT --with tcp-reset
    ],
)
def test_a_reset_that_is_somebodys_will_is_no_proof(
    flow: Flow | None, way: Tuple, reason: str | None, complete: bool
) -> None:
    assert explain.reset(way, flow, LOCAL, reason, reasons_complete=complete).condition is None


def test_a_reject_is_told_where_the_kernel_gives_no_reasons() -> None:
    way = Tuple(UPLINK, 6000, SERVER, 443)
    says = explain.reset(way, MASQUERADED, LOCAL, None, reasons_complete=False, answers=False)
    assert (says.condition, "REJECT" in says.text) == (None, True)


def test_a_reset_of_the_kernel_for_a_local_end_behind_nat_is_proof() -> None:
    way = Tuple(SERVER, 80, CONTAINER, 7000)
    says = explain.reset(way, REDIRECTED, LOCAL, "NO_SOCKET", reasons_complete=True)
    assert says.condition == "tcp-invalid-reset"


def test_a_refused_answer_names_server_and_both_addresses() -> None:
    request = Flow(
        "udp",
        Tuple(CONTAINER, 57275, UPLINK, 53),
        Tuple(UPLINK, 53, CONTAINER, 57275),
        False,
        False,
    )
    way = Tuple(BRIDGE, 53, CONTAINER, 57275)
    proof = Proof(request, None, BRIDGE)
    says = explain.refused(way, CONTAINER, "udp", proof, SERVED)
    assert says.condition == "udp-reply-source"
    assert says.text == (
        f"{CONTAINER}:57275 asked {UPLINK}:53 and refused the answer, which udpd[7] "
        f"(udpd.service) sent from {BRIDGE}:53"
    )
    proxy = Process(8, "docker-proxy")
    assert explain.refused(way, CONTAINER, "udp", proof, proxy).condition == "udp-proxy-hairpin"
    says = explain.refused(way, CONTAINER, "udp", proof, SERVED, connected=True)
    assert says.condition == "udp-connected-server"
    gone = explain.refused(way, CONTAINER, "udp", None, SERVED)
    assert gone.condition is None
    assert (
        f"which udpd[7] (udpd.service) sent: no process listens at {CONTAINER}:57275" in gone.text
    )
    reversed_way = replace(request, original=Tuple(CONTAINER, 57275, "10.96.0.53", 80), nat=True)
    says = explain.refused(way, CONTAINER, "udp", Proof(reversed_way, None, BRIDGE), SERVED)
    assert f"asked 10.96.0.53:80, which NAT turns into {UPLINK}:53, and refused" in says.text


def test_who_sent_through_nat_is_named_and_not_this_host() -> None:
    way, other = Tuple(UPLINK, 7777, SERVER, 7000), "172.17.0.77"
    sent = Tuple(other, 7777, SERVER, 7000)
    says = explain.refused_behind(way, SERVER, Behind(sent, None))
    assert (says.condition, f"which {other}:7777 sent through NAT" in says.text) == (None, True)
    says = explain.refused_behind(way, SERVER, Behind(sent, PUBLISHED))
    assert says.text == (
        f"{SERVER}:7000 asked {UPLINK}:80, which NAT turns into {CONTAINER}:8080, and refused the "
        f"answer, which {other}:7777 sent: the server there has to answer from {CONTAINER}"
    )


def test_a_refusal_names_the_rule_or_the_flow_that_it_is_beside() -> None:
    way = Tuple(SERVER, 6000, UPLINK, 5140)
    rule = PacketRule("nft", "ip", "pod", "pre", "prerouting", "dnat", "udp dport 5140 dnat to X")
    past = MissedNat("udp", way, rule)
    says = explain.refusal(way, SERVER, "udp", None, None, LOCAL, past=past)
    assert says.condition is None
    assert "'udp dport 5140 dnat to X' (nft ip pod pre)" in says.text
    assert f"conntrack -D -p udp --orig-src {SERVER} --orig-dst {UPLINK} --sport 6000" in says.text
    hiding = replace(rule, action="notrack", chain="raw", text="udp dport 5140 notrack")
    says = explain.refusal(
        way, SERVER, "udp", None, None, LOCAL, past=past._replace(notrack=hiding)
    )
    assert "'udp dport 5140 notrack' (nft ip pod raw) keeps it from conntrack" in says.text
    asked = Flow(
        "udp", Tuple(CONTAINER, 40000, SERVER, 69), Tuple(SERVER, 69, UPLINK, 40000), False, True
    )
    way = Tuple(SERVER, 41000, UPLINK, 40000)
    for why, text in (
        ("other-port", "the server answers from port 41000: a protocol such as TFTP needs its"),
        ("data", "the server opens the data connection from port 41000: FTP in active mode"),
        ("forgotten", "has had to give that client port 40000 instead"),
    ):
        awaited = Awaited(asked, why)  # type: ignore[arg-type]
        says = explain.refusal(way, SERVER, "udp", None, None, LOCAL, awaited=awaited)
        assert says.condition is None
        assert f"{CONTAINER}:40000 asked {SERVER}:69 through NAT" in says.text
        assert text in says.text


def test_a_refusal_is_proof_where_the_server_has_connected_elsewhere() -> None:
    way = Tuple(CONTAINER, 57275, UPLINK, 53)
    says = explain.refusal(way, CONTAINER, "udp", BRIDGE, SERVED, LOCAL)
    assert says.condition == "udp-connected-server"
    assert f"connected its socket to that client from {BRIDGE}:53" in says.text
    closed = explain.refusal(way, CONTAINER, "udp", None, None, LOCAL)
    assert closed.condition is None
    beyond = replace(way, destination=SERVER)
    assert "REJECT" in explain.refusal(beyond, CONTAINER, "udp", None, None, LOCAL).text


def test_ipv6_addresses_are_written_with_brackets_and_nat_is_named() -> None:
    way = Tuple("2001:db8::9", 6000, "2001:db8::1", 443)
    flow = Flow(
        "tcp",
        Tuple("fd00::2", 5000, "2001:db8::1", 443),
        Tuple("2001:db8::1", 443, "2001:db8::9", 6000),
        False,
        True,
    )
    says = explain.retry(way, flow, 3, 3.07)
    assert says.text == (
        "SYN to [2001:db8::1]:443 from 2001:db8::9 (NAT for fd00::2) sent 3 times in 3.1 s: "
        "no answer"
    )
    assert says.condition is None


def test_proofs_have_an_allowance_of_their_own() -> None:
    pace = Pace(2)
    assert [pace.allows(proof=False) for _ in range(4)] == [True, True, False, False]
    assert [pace.allows(proof=True) for _ in range(3)] == [True, True, False]
    assert pace.renew() == 3
    assert pace.allows(proof=False)
    assert pace.renew() == 0


FORMAT = """name: kfree_skb
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:__u8 saddr[28];\toffset:32;\tsize:28;\tsigned:0;
\tfield:enum skb_drop_reason reason;\toffset:36;\tsize:4;\tsigned:0;

print fmt: "reason: %s", __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, { 0x3, "NO_SOCKET" })
"""


def test_an_events_format_is_read_as_the_kernel_writes_it() -> None:
    assert reasons.fields(FORMAT) == {"common_type", "saddr", "reason"}
    assert reasons.number_of(FORMAT, "NO_SOCKET") == 3
    assert reasons.number_of(FORMAT, "SOCKET_CLOSE") is None


@pytest.mark.parametrize(
    ("ends", "way"),
    [
        ("src=10.0.0.1:80 dest=10.0.0.2:443", Tuple("10.0.0.1", 80, "10.0.0.2", 443)),
        ("src=[2001:db8::1]:80 dest=[fd00::2]:443", Tuple("2001:db8::1", 80, "fd00::2", 443)),
        ("src=[::ffff:10.0.0.1]:80 dest=[::ffff:10.0.0.2]:1", Tuple("10.0.0.1", 80, "10.0.0.2", 1)),
    ],
)
def test_a_reasons_line_is_read(ends: str, way: Tuple) -> None:
    line = f"tcp_send_reset: skbaddr=00000000a skaddr=0 {ends} state=UNKNOWN reason=NO_SOCKET"
    assert reasons.parse(line) == (way, "NO_SOCKET")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "CPU:0 [LOST 12 EVENTS]",
        "tcp_send_reset: src=nonsense dest=10.0.0.1:1 state=UNKNOWN reason=NO_SOCKET",
        "tcp_send_reset: src=10.0.0.1:x dest=10.0.0.1:1 state=UNKNOWN reason=NO_SOCKET",
    ],
)
def test_any_other_line_is_left(line: str) -> None:
    assert reasons.parse(line) is None


def test_addresses_are_spelled_as_everywhere_else() -> None:
    odd = "tcp_send_reset: src=[2001:0db8::0001]:1 dest=[::1]:2 state=X reason=ERROR"
    found = reasons.parse(odd)
    assert found is not None
    assert found[0].source == socket.inet_ntop(
        socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    )
