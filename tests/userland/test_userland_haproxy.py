"""The real HAProxy with QUIC, which Debian builds from trixie on: haproxy/haproxy#3503.

It sets IP_PKTINFO and sends all the same some answers, such as Version Negotiation, without a
source: asked by an address that the route does not choose it answers from another one. Bound to
the address asked it answers. Its receiver of log messages answers nobody, and is not accused.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from daemons import certificate
from debian import root_folder
from real_tools import PACKAGES
from tracked import remember
from userland_world import Userland

from remedies.facts.daemon_lines import lines_of, option_of
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options
from remedies.model import Advice
from remedies.planning.advice import advice_text

QUIC, LOG = 443, 514
CONF = f"""\
global
  limited-quic
defaults
  mode http
  timeout client 9s
  timeout connect 9s
  timeout server 9s
frontend web
  BIND ssl crt /run/web.pem alpn h3
log-forward logs
  dgram-bind 0.0.0.0:{LOG}
  log /run/log local0
"""
WILD = f"bind quic4@0.0.0.0:{QUIC}"
# Its output is no pipe of ours: it would keep that open.
RESTART = f"""
[ ! -e /run/pid ] || kill "$(cat /run/pid)"
timeout 60 sh -c 'while ss -Hlnu sport = {QUIC} | grep .; do sleep 0.2; done' > /run/said
haproxy -D -p /run/pid -f /run/haproxy.cfg > /run/said 2>&1 || {{ cat /run/said; exit 1; }}
"""
# RFC 9000, 17.2.1: a version that nobody speaks, in a datagram as long as a first one has to be.
UNKNOWN_VERSION = bytes.fromhex("c01a2a3a4a08010203040506070808111213141516171800").ljust(
    1200, b"\0"
)


def start(world: Userland, bind: str) -> None:
    """Have it run with one bind line and no other; it returns once it listens."""
    world.sh("sh", "-c", "cat > /run/haproxy.cfg", stdin=CONF.replace("BIND", bind))
    world.sh("sh", "-exc", RESTART)


def answerer(world: Userland, to: str) -> str:
    """Ask, and return the address that the answer comes from; a connected client drops another."""
    with world.socket("client", socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"<13>x", (to, LOG))
        client.sendto(UNKNOWN_VERSION, (to, QUIC))
        return str(client.recvfrom(2000)[1][0])


def plan(world: Userland) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what is found about UDP answers, by port, and the advice for it."""
    made = world.json("plan", "--window", "0")
    findings = {f["id"]: f for f in made["findings"] if f["condition"] == "udp-reply-source"}
    told = {
        findings[a["finding"]]["details"]["port"]: advice_text(
            Advice("bind-advice", "x", a["title"], "bind", a["values"])
        )
        for a in made["advice"]
        if a["finding"] in findings
    }
    return {f["details"]["port"]: f for f in findings.values()}, told


def test_quic_is_proven_and_mended_by_the_option_named(bundle: Path, tmp_path: Path) -> None:
    root = root_folder("trixie", extra=PACKAGES["trixie"])
    with Userland("userland", Options(), root, bundle) as world:
        container_host(world)
        remember(world)  # who was answered wrongly before it was mended
        at = addresses(world)
        certificate(tmp_path)
        both = (tmp_path / "c.pem").read_text() + (tmp_path / "k.pem").read_text()
        (world.root / "run/web.pem").write_text(both)
        start(world, WILD)
        assert answerer(world, at.bridge) == at.bridge
        assert answerer(world, at.uplink) == at.bridge
        found, told = plan(world)
        assert [(f["verdict"], f["details"]["process"]) for f in found.values()] == [
            ("proven", "haproxy")
        ]
        row = option_of("haproxy")
        assert row is not None
        (line,) = lines_of(row, (at.uplink,), str(QUIC))
        assert line in told[str(QUIC)]
        start(world, line)
        assert answerer(world, at.uplink) == at.uplink
        found, told = plan(world)
        assert {port: f["verdict"] for port, f in found.items()} == {str(QUIC): "mitigated"}
        assert told == {}
