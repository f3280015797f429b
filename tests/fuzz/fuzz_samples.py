"""Good values of the formats, for the fuzzers to begin from."""

from __future__ import annotations

import json
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_formats import default

from remedies import codec, policy
from remedies.facts import Facts, saved
from remedies.facts.counters import Counters
from remedies.facts.flows import Flows
from remedies.facts.netfilter import NatUse, Netfilter
from remedies.facts.process import Process
from remedies.facts.routes import DefaultRoute, Routes
from remedies.facts.sockets import Sockets, UdpSocket
from remedies.facts.sysctl import Sysctl
from remedies.model import Advice, Change, Evidence, Finding, Host, Plan, Refusal, Scan, Unknown
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import Address, Link, Links
from remedies.netlink.socket import attribute, nested
from remedies.planning import planfile
from remedies.rules import ours
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Begin

HOST = Host("web1", "ab" * 16, "6.18.0", "host", "cd" * 8)
TIME = "2026-11-20T18:00:00Z"
FINDING = Finding("tcp-invalid-reset", "tcp through NAT", "proven", "critical", "it resets",
                  (Evidence("sysctl", "a.b", "0", "x"),), details={"port": "6"})  # fmt: skip
IPTABLES = (
    "# iptables-nft\n*mangle\n:FORWARD\n:INPUT\n:REMEDY-INVALID -\n-A INPUT -j REMEDY-INVALID\n"
    "-A REMEDY-INVALID -p tcp -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n"
)
NFT = ours.nft_table(
    "inet/remedy_invalid_drop",
    (
        ours.NftChain(
            "input", "filter", "input", -10,
            ((ours.meta("l4proto", "tcp"), ours.ct_state("invalid", "new"), ours.counter(),
              ours.payload("tcp", "dport", ours.any_of(1, ours.port_range(2, 3))),
              ours.drop(), ours.comment("x")),),
        ),
    ),
)  # fmt: skip
BIND = {
    "protocol": "udp", "port": "5060", "family": "4", "addresses": ["192.0.2.1"], "asked": True,
    "process": "sipd", "pid": "7", "unit": "sip.service", "container": "", "argv": ["sipd"],
    "connects": False, "place": "unit",
}  # fmt: skip
CHANGE = Change(
    fix="invalid-drop", finding=FINDING.id, resource="nft:inet/remedy_invalid_drop",
    action="create", before=None, after=NFT, diff="@@ -0,0 +1 @@\n+x", reversibility="exact",
    risk="low", impact="drops", effects=("flow:udp/192.0.2.1/5/192.0.2.2/6",),
)  # fmt: skip


@cache
def plan() -> dict[str, Any]:
    made = Plan(
        scan=Scan(HOST, TIME, (FINDING,), (Unknown("conntrack-pressure", "may not be read"),)),
        policy=default().ref(),
        changes=(CHANGE,),
        advice=(Advice("bind-advice", FINDING.id, "Bind it", "bind", BIND),),
        refused=(Refusal("notrack", None, "no"),),
        warnings=("careful",),
    )
    plain: dict[str, Any] = json.loads(json.dumps(planfile.plan_plain(made, {})))
    return plain


@cache
def facts() -> dict[str, Any]:
    owner = Process(7, "sipd", ("sipd",), "sip.service", "")
    tuple_ = Tuple("192.0.2.9", 40000, "192.0.2.1", 5060)
    known: dict[str, object] = {
        "sysctl": Sysctl({"net.netfilter.nf_conntrack_max": "100",
                          "net.netfilter.nf_conntrack_count": "99",
                          "net.netfilter.nf_conntrack_tcp_be_liberal": "0"}, {}),
        "links": Links((Link(2, "eth0", "", up=True), Link(3, "docker0", "bridge", up=True)),
                       (Address("192.0.2.1", 24, 2, "global"),
                        Address("172.17.0.1", 16, 3, "global"))),
        "netfilter": Netfilter(True, "nft", ("nft ip nat PREROUTING",), (NatUse("ip", "dnat"),),
                               True),
        "counters": Counters({"Tcp.OutRsts": 1}, {"Tcp.OutRsts": 9}),
        "flows": Flows((Flow("udp", tuple_, tuple_, False, False),)),
        "routes": Routes((DefaultRoute(4, ("eth0",), 254, 0, "192.0.2.254"),)),
        "sockets": Sockets((UdpSocket(4, "0.0.0.0", 5060, 9, 0, owner=owner),)),
    }  # fmt: skip
    made = Facts(HOST, TIME, 0.0, known, {}, ())
    plain: dict[str, Any] = json.loads(saved.to_json(made))
    return plain


@cache
def journal() -> list[dict[str, Any]]:
    """Return the records of a journal with one transaction, without their hashes' truth."""
    begin = Begin("apply", (CHANGE,), "1", "web1", "ab", "cd", "root", "remedy apply",
                  findings=(FINDING,))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        with Journal(folder) as made:
            made.append("begin", "t1", begin.plain())
            made.append("written", "t1", {"change": 0})
            made.append("verified", "t1", {"verified": [], "findings": []})
            made.append("pending", "t1", {"until": TIME, "clock": 5.0})
            made.append("end", "t1", {"outcome": "applied"})
        text = (Path(folder) / "journal.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@cache
def compiled() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(policy.to_compiled(default()))
    return plain


POLICY = {
    "apiVersion": "remedy/v1", "name": "mine", "extends": "default", "persist": True,
    "backend": "auto", "rules": {"tcp-invalid-reset": {"mode": "fix", "fixes": ["invalid-drop"]}},
    "require": [{"fix": "invalid-drop", "reason": "always"}],
    "waivers": [{"condition": "tcp-invalid-reset", "subject": "*", "owner": "me",
                 "reason": "known", "until": "2030-01-01"}],
}  # fmt: skip
CONFIGURATION = (
    b"[remedy]\npolicy =\n  default\nstate-dir = /var/lib/x\nlock-timeout = 5s\njson = yes\n"
)
LOCK = {"pid": 5, "command": "remedy apply", "user": "root", "since": TIME}


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, attribute(1, name.encode() + b"\0"), nested(2, *attributes))


def data(value: bytes) -> bytes:
    return attribute(1, value)


NFT_RULE = b"\2\0\0\0" + nested(
    4,
    expression("meta", attribute(1, u32(1)), attribute(2, u32(16))),
    expression("cmp", attribute(1, u32(1)), attribute(2, u32(0)), nested(3, data(b"\6"))),
    expression("payload", *(attribute(k, u32(v)) for k, v in ((1, 1), (2, 1), (3, 12), (4, 4)))),
    expression("bitwise", *(attribute(k, u32(v)) for k, v in ((1, 1), (2, 1))),
               nested(4, data(b"\xff\xff\xff\0")), nested(5, data(bytes(4)))),
    expression("cmp", attribute(1, u32(1)), attribute(2, u32(0)), nested(3, data(b"\x0a\0\0\0"))),
    expression("immediate", attribute(1, u32(2)), nested(2, data(b"\x0a\0\0\1"))),
    expression("nat", *(attribute(k, u32(v)) for k, v in ((1, 1), (3, 2), (4, 2), (5, 2)))),
    expression("lookup", attribute(1, b"set\0"), attribute(2, u32(1))),
    expression("match", attribute(1, b"conntrack\0"), attribute(2, u32(3)),
               attribute(3, bytes(160))),
    expression("target", attribute(1, b"DNAT\0"), attribute(2, u32(2)), attribute(3, bytes(48))),
)  # fmt: skip
_STANDARD = struct.pack("=H29sBi", 40, b"", 0, -2) + bytes(4)
_PORTS = struct.pack("=4HBBBB", 0, 65535, 443, 443, 0, 0, 0, 0)
_MATCH = struct.pack("=H29sB", 48, b"tcp", 0) + _PORTS + bytes(4)
_IP = bytes(4) + b"\x0a\0\0\0" + bytes(4) + b"\xff\0\0\0" + bytes(64)
_IP += struct.pack("=HBB", 6, 0, 0)
LEGACY = 4 * (_IP + struct.pack("=IHHI8x8x", 0, 112 + 48, 112 + 88, 0)[:28] + _MATCH + _STANDARD)
CONNTRACK = b"\2\0\0\0" + nested(
    1,
    nested(1, attribute(1, b"\x0a\0\0\1"), attribute(2, b"\x0a\0\0\2")),
    nested(2, attribute(1, b"\x11"), attribute(2, b"\0\1"), attribute(3, b"\0\2")),
)
ROUTE = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 252, 3, 0, 1, 0) + attribute(
    9, struct.pack("=HBBi", 16, 0, 0, 2) + attribute(5, b"\x0a\0\0\1")
)
IPSET = (
    attribute(3, b"hash:ip,port,net\0")
    + attribute(5, b"\2")
    + nested(7, attribute(24, u32(1)))
    + nested(
        8,
        nested(
            7,
            nested(1, attribute(1, b"\x0a\0\0\1")),
            attribute(4, b"\x13\xc4"),
            attribute(7, b"\x11"),
            nested(20, attribute(1, b"\xc0\0\2\0")),
            attribute(21, b"\x18"),
        ),
    )
)
PACKET = bytes.fromhex("45000028000040004006000 0c0000201c0000202".replace(" ", "")) + bytes(20)


def seeds() -> dict[str, list[bytes]]:
    """Return for each format what is right, or nearly."""
    plain = {
        "policy_yaml": POLICY, "policy_compiled": compiled(), "plan": plan(), "facts": facts(),
        "lock_card": LOCK,
    }  # fmt: skip
    found = {name: [codec.dumps(value).encode()] for name, value in plain.items()}
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in journal())
    answer = b'HTTP/1.0 200 OK\r\n\r\n[{"Id":"' + b"a" * 64 + b'","Names":["/x"],"NetworkSettings":'
    answer += b'{"Networks":{"b":{"IPAddress":"172.17.0.2"}}}}]'
    found.update(
        journal_file=[lines], journal_segments=[lines], next_document=[b"{}[]"],
        iptables_state=[IPTABLES.encode()], iptables_undo=[IPTABLES.encode()],
        iptables_boot=[IPTABLES.encode()], nft_state=[NFT.encode()],
        ssh_connection=[b"192.0.2.9 40000 192.0.2.1 22", b"nameserver ::1\n"],
        configuration=[CONFIGURATION],
        cgroup=[b"0::/system.slice/docker-" + b"a" * 64 + b".scope\n"],
        proc_counters=[b"entries invalid\n1 2\nTcp: OutRsts\nTcp: 4\nIcmp6InDestUnreachs 4\n"],
        sysctl_file=[b"net.ipv4.*=1\n-net/ipv4/ip_forward=0\n"],
        trace_text=[b"src=192.0.2.1:22 dest=[::1]:5 state=X reason=NO_SOCKET", b"{ 2, \"NO\" }"],
        container_names=[answer],
        netlink_datagram=[struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -1) + bytes(16)],
        packet=[PACKET], nft_rule=[NFT_RULE], nft_elements=[attribute(1, bytes(16)) * 2],
        xt_blob=[bytes(160), b"\xff" * 160], legacy_table=[LEGACY], conntrack_entry=[CONNTRACK],
        socket_entry=[bytes(72) + attribute(11, b"\1")], route_messages=[ROUTE],
        nft_chain=[attribute(1, b"t\0") + attribute(6, u32(1))],
        ipset_listing=[IPSET],
        logged_packet=[bytes(4) + attribute(9, PACKET) + attribute(10, b"nf_ct_proto_6: x \0")],
    )  # fmt: skip
    return found
