"""Random firewalls beside NAT: the verdict on INVALID segments agrees with the kernel.

One segment says little of others, so several are sent: from the neighbour and from far away, from a
service's port and another, to ports that clients or NAT choose. ``mitigated`` means that no reset
answers any of them, without exception. ``exposed`` means that one is answered; where two drops
cover the segments only together, or a rule knows the destination, it may be needless, which is
counted, printed, and rare. The examples are the same in every run.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import Counter

from hypothesis import Phase, given, settings
from random_rules import firewall
from run_in import run_command
from test_rules_judged import Site, judge, segment, site

from remedies.namespaces import netns as namespaces

__all__ = ["site"]

EXAMPLES = 300
_FAR = "192.0.2.77"
_PROBES = [
    ((source, sport), ("10.21.17.99", dport))
    for source in ("10.21.17.1", _FAR)
    for sport, dport in ((443, 40000), (5555, 33000), (443, 20000), (5555, 700))
]


def resets(site: Site, wait: float) -> bool:
    """Send the segments; tell whether any is answered by a reset."""
    heard = site.server.sends
    while select.select([heard], [], [], 0)[0]:
        heard.recv(2000)
    with namespaces.inside(site.server_ns):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        for (source, sport), (to, dport) in _PROBES:
            body = segment((source, sport), (to, dport))
            ends = socket.inet_aton(source) + socket.inet_aton(to)
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 6, 0)
            raw.sendto(head + ends + body, (to, 0))
    while select.select([heard], [], [], wait)[0]:
        packet = heard.recv(2000)
        if packet[4 * (packet[0] & 15) + 13] & 0x04:
            return True
    return False


def test_random_firewalls_are_judged_as_the_kernel_runs_them(site: Site) -> None:
    run_command(site.server_ns, ["ip", "address", "add", f"{_FAR}/32", "dev", "up0"])
    run_command(site.host, ["ip", "route", "add", f"{_FAR}/32", "via", "10.21.17.1"])
    told: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, phases=(Phase.generate,), derandomize=True, deadline=None)
    @given(firewall())
    def agrees(text: str) -> None:
        verdict, message = judge(site, "nft", text)
        # A busy machine may take its time to answer.
        answered = resets(site, 0.03) or (verdict == "exposed" and resets(site, 0.3))
        assert verdict != "mitigated" or not answered, (message, text)
        told[verdict if answered == (verdict == "exposed") else "needless"] += 1

    agrees()
    print(f"random firewalls: {dict(told)}")
    assert told["needless"] < EXAMPLES / 25
    assert min(told["exposed"], told["mitigated"]) > EXAMPLES / 10
