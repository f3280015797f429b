"""Build an ordinary Docker host in a namespace, to measure on: rules, flows, UDP servers.

``python ordinary.py NAME [RULES [FLOWS]]`` leaves the namespaces NAME and NAME-peer behind; the
caller removes them.
"""

from __future__ import annotations

import socket
import subprocess
import sys

from remedies.namespaces.netns import inside

UPLINK, PEER = "10.21.17.99", "10.21.17.1"
PORT = 5000
FLOWS_A_PORT = 60_000
"""Each from a source port of its own, from FIRST_SOURCE on."""
FIRST_SOURCE = 2000


def build(name: str, rules: int = 100, flows: int = 1000, *, tool: str = "iptables-nft") -> None:
    """Make the namespaces: a bridge, an uplink, Docker-like rules, and tracked UDP flows.

    One flow in a hundred has no reply. They last ten minutes.
    """
    peer = f"{name}-peer"
    for namespace in (name, peer):
        _run("ip", "netns", "add", namespace)
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
    _run("ip", "-n", name, "link", "add", "up0", "type", "veth", "peer", "eth0", "netns", peer)
    _run("ip", "-n", name, "link", "add", "docker0", "type", "bridge")
    _run("ip", "-n", name, "addr", "add", "172.17.0.1/16", "dev", "docker0")
    _run("ip", "-n", name, "addr", "add", f"{UPLINK}/24", "dev", "up0")
    _run("ip", "-n", peer, "addr", "add", f"{PEER}/24", "dev", "eth0")
    for namespace, link in ((name, "up0"), (name, "docker0"), (peer, "eth0")):
        _run("ip", "-n", namespace, "link", "set", link, "up")
    if tool == "nft":
        _run("ip", "netns", "exec", name, "nft", "-f", "-", stdin=_nft_rules(rules))
    else:
        _run("ip", "netns", "exec", name, f"{tool}-restore", stdin=_rules(rules))
    for key in ("udp_timeout", "udp_timeout_stream"):
        with inside(name), open(f"/proc/sys/net/netfilter/nf_conntrack_{key}", "w") as file:
            file.write("600")
    for first in range(0, flows, FLOWS_A_PORT):
        port = PORT + first // FLOWS_A_PORT
        with inside(peer):
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind((PEER, port))
        with inside(name), server:
            for number in range(first, min(first + FLOWS_A_PORT, flows)):
                own = FIRST_SOURCE + number - first
                _flow(server, own, port, answered=number % 100 != 0)


def _flow(server: socket.socket, own: int, port: int, *, answered: bool) -> None:
    """Make one UDP flow."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((UPLINK, own))
        client.settimeout(5)
        client.sendto(b"?", (PEER, port))
        _, source = server.recvfrom(16)
        if answered:
            server.sendto(b"!", source)
            client.recv(16)


def remove(name: str) -> None:
    """Remove what :func:`build` made."""
    for namespace in (name, f"{name}-peer"):
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def _rules(count: int) -> str:
    nat = ["*nat", ":DOCKER - [0:0]", "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
           "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"]  # fmt: skip
    filter_ = ["*filter", ":FORWARD DROP [0:0]", ":DOCKER - [0:0]",
               "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
               "-A FORWARD -o docker0 -j DOCKER",
               "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT"]  # fmt: skip
    published = min(20, count // 4)
    for number in range(published):
        target = f"172.17.0.{number + 2}"
        port = 8000 + number
        nat.append(f"-A DOCKER ! -i docker0 -p tcp -m tcp --dport {port} "
                   f"-j DNAT --to-destination {target}:80")  # fmt: skip
    for number in range(count - published - 6):
        target = f"172.{18 + number // 65536}.{number // 256 % 256}.{number % 256}"
        filter_.append(f"-A DOCKER -d {target}/32 ! -i docker0 -o docker0 -p tcp -m tcp "
                       "--dport 80 -j ACCEPT")  # fmt: skip
    return "\n".join([*nat, "COMMIT", *filter_, "COMMIT", ""])


def _nft_rules(count: int) -> str:
    """Return as many native rules in one chain, each with three matches, and a masquerade."""
    lines = [
        "table ip theirs {",
        "chain nat { type nat hook postrouting priority srcnat;",
        'ip saddr 172.17.0.0/16 oifname != "docker0" masquerade',
        "}",
        "chain forward { type filter hook forward priority filter; policy accept;",
    ]
    lines += [
        f"ip daddr 172.{18 + number // 65536}.{number // 256 % 256}.{number % 256} "
        'oifname "docker0" tcp dport 80 accept'
        for number in range(count)
    ]
    return "\n".join([*lines, "}", "}", ""])


def _run(*argv: str, stdin: str = "") -> None:
    subprocess.run(argv, input=stdin, text=True, check=True)


if __name__ == "__main__":
    build(sys.argv[1], *map(int, sys.argv[2:]))
