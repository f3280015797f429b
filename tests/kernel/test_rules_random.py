"""Random firewalls beside NAT: the verdict on INVALID segments agrees with the kernel.

One segment says little of others, so several are sent: from the neighbour and from far away, from a
service's port and another, to ports that clients or NAT choose; to a published port, and from the
container behind it. ``mitigated`` means that no reset answers any of them, without exception.
``exposed`` means that one is answered; where a rule knows the destination of a reset, or the like,
it may be needless, which is counted, printed, and rare; and so is ``unknown``. The examples are the
same in every run.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import Phase, given, settings
from judged_site import CONTAINER, FAR, HOST, SERVER, Site, Stray
from random_rules import Firewall, firewall
from test_rules_judged import judge, site

__all__ = ["site"]

EXAMPLES = 400


def dies(site: Site, made: Firewall) -> bool:
    """Tell whether a reset answers any stray segment of the flows that NAT rewrites."""
    at, here = made.version, HOST["eth0"][made.version]
    senders = (SERVER[at], FAR[at])
    ports = [(443, 40000), (5555, 33000), (443, 20000), (5555, 700)] if made.masquerades else []
    ports += [(443, 8080), (50000, 8080)] if made.publishes else []
    strays = [Stray((of, port), (here, to)) for of in senders for port, to in ports]
    if site.server.answered(strays):
        return True
    answers = [Stray((CONTAINER[at], 80), (to, port)) for to in senders for port in (443, 50000)]
    return made.publishes and bool(site.container.answered(answers))


def test_random_firewalls_are_judged_as_the_kernel_runs_them(site: Site) -> None:
    told: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, phases=(Phase.generate,), derandomize=True, deadline=None)
    @given(firewall())
    def agrees(made: Firewall) -> None:
        verdict, message = judge(site, made.tool, made.text)
        answered = dies(site, made)
        assert verdict != "mitigated" or not answered, (message, made.text)
        if verdict == "exposed" and not answered:
            verdict = "needless"
        if verdict in ("needless", "unknown"):
            print(verdict, message, made.text, sep="\n")
        told[verdict] += 1

    agrees()
    print(f"random firewalls: {dict(told)}")
    assert told["needless"] < EXAMPLES / 25
    assert told["unknown"] < EXAMPLES / 10
    assert min(told["exposed"], told["mitigated"]) > EXAMPLES / 10
