"""Random firewalls beside NAT: the verdict on INVALID segments agrees with the kernel.

One segment says little of others, so several are sent: from the neighbour and from far away, from a
service's port and another, to ports that clients or NAT choose. ``mitigated`` means that no reset
answers any of them, without exception. ``exposed`` means that one is answered; where two drops
cover the segments only together, or a rule knows the destination, it may be needless, which is
counted, printed, and rare. The examples are the same in every run.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import Phase, given, settings
from judged_site import FAR, HOST, SERVER, Site, Stray
from random_rules import firewall
from test_rules_judged import judge, site

__all__ = ["site"]

EXAMPLES = 300
_STRAYS = [
    Stray((source, sport), (HOST["eth0"][0], dport))
    for source in (SERVER[0], FAR[0])
    for sport, dport in ((443, 40000), (5555, 33000), (443, 20000), (5555, 700))
]


def test_random_firewalls_are_judged_as_the_kernel_runs_them(site: Site) -> None:
    told: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, phases=(Phase.generate,), derandomize=True, deadline=None)
    @given(firewall())
    def agrees(text: str) -> None:
        verdict, message = judge(site, "nft", text)
        answered = bool(site.server.answered(_STRAYS))
        assert verdict != "mitigated" or not answered, (message, text)
        if verdict == "exposed" and not answered:
            verdict = "needless"
            print(message, text)
        elif verdict == "unknown":
            print(message, text)
        told[verdict] += 1

    agrees()
    print(f"random firewalls: {dict(told)}")
    assert told["needless"] < EXAMPLES / 25
    assert told["unknown"] < EXAMPLES / 10
    assert min(told["exposed"], told["mitigated"]) > EXAMPLES / 10
