"""Random firewalls beside NAT: the verdict on INVALID segments agrees with the kernel.

One segment says little of others, so several are sent: from the neighbour and from far away, from a
service's port and another, to ports that clients or NAT choose; to a published port, and from the
container behind it. ``mitigated`` means that no reset answers any of them, without exception.
``exposed`` means that one is answered; where a rule knows the destination of a reset, or the like,
it may be needless, which is counted, printed, and rare; and so is ``unknown``. The examples are the
same in every run; ``examples`` tells how to have more.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from examples import examples
from hypothesis import Phase, given, settings
from judged_site import CONTAINER, FAR, HOST, SERVER, Site, Stray
from random_rules import Firewall, firewall
from test_rules_judged import judge, site

__all__ = ["site"]

EXAMPLES = examples(360)
# More than 300 differ: that is what was promised of a run.
HEADERS: tuple[dict[str, Any], ...] = (
    {},
    {"hops": 255, "service": 0xB8},
    {"mac": bytes.fromhex("020000000103")},
    {"hops": 255, "service": 0xB8, "mac": bytes.fromhex("020000000103")},
)
"""How else the same segments come."""


def dies(site: Site, made: Firewall) -> bool:
    """Tell whether a reset answers any stray segment of the flows that NAT rewrites."""
    at, here = made.version, HOST["eth0"][made.version]
    senders = (SERVER[at], FAR[at], ("127.0.0.1", "::1")[at])
    ports = (
        [(443, 40000), (5555, 33000), (443, 20000), (5555, 700), (22, 41000)]
        if made.masquerades
        else []
    )
    ports += [(443, 8080), (50000, 8080)] if made.publishes else []
    strays = [
        Stray((of, port), (here, to), **header)
        for of in senders
        for port, to in ports
        for header in HEADERS
    ]
    if site.server.answered(strays):
        return True
    answers = [
        Stray((CONTAINER[at], 80), (to, port), **header)
        for to in senders
        for port in (33000, 50000)
        for header in HEADERS
    ]
    if made.tool == "nft":  # there a container may ask the published port, too
        own = (CONTAINER[at], 50000), (here, 8080)
        answers += [Stray(*own, **header) for header in HEADERS]
    return made.publishes and bool(site.container.answered(answers))


def test_random_firewalls_are_judged_as_the_kernel_runs_them(site: Site) -> None:
    told: Counter[str] = Counter()
    seen: set[Firewall] = set()

    @settings(max_examples=EXAMPLES, phases=(Phase.generate,), derandomize=True, deadline=None)
    @given(firewall())
    def agrees(made: Firewall) -> None:
        if made in seen:  # hypothesis makes some again
            return
        seen.add(made)
        verdict, message = judge(site, made.tool, made.text)
        answered = dies(site, made)
        if verdict == "mitigated" and answered:
            pytest.fail(f"{message}\n{made.text}")
        if verdict == "exposed" and not answered:
            verdict = "needless"
        if verdict in ("needless", "unknown"):
            print(verdict, message, made.text, sep="\n")
        told[verdict] += 1

    agrees()
    print(f"random firewalls: {dict(told)}")
    assert len(seen) > min(300, EXAMPLES * 3 / 4)
    assert told["needless"] < len(seen) / 25
    assert told["unknown"] < len(seen) / 10
    assert min(told["exposed"], told["mitigated"]) > len(seen) / 10
