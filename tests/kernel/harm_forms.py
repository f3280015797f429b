"""The forms of the harm matrix: each fix in each backend, and the forms that were tried."""

from __future__ import annotations

from dataclasses import dataclass

from harm_site import AT, World
from older_drop import OLDER

from remedies import catalogue
from remedies.conditions import stale_flow
from remedies.facts import Facts
from remedies.facts.gather import read_facts
from remedies.facts.netfilter import Netfilter
from remedies.model import Backend, Finding, Host, Terms, Wanted
from remedies.transaction.host import HostResources

ENDS = "flush-stale-flow"
HOST = Host("h", "m", "6.18", "n", "b")


@dataclass(frozen=True)
class Form:
    """One way to write one fix."""

    name: str
    fix: str = ""
    """Its id; empty for a form that was tried and is not used."""
    wanted: tuple[Wanted, ...] = ()
    rules: str = ""
    """What is written where there is no ``wanted``: the table ``inet tried``, in nft syntax."""
    uses: tuple[tuple[Finding | None, Terms], ...] = ()
    """What the fix's guard is asked."""

    def looked_at(self, world: World) -> bool:
        """Tell whether it is laid over a world.

        What iptables writes as nftables does is looked at where there is something for it.
        """
        if world.of or self.fix in BESIDE:
            return world.of == self.fix or (not world.of and world.name in BESIDE[self.fix])
        return world.served or self.fix in EVERYWHERE or "iptables" not in self.name

    def act(self) -> None:
        """Do what a fix does that is in force at no time: end the flows that are stale now."""
        facts = read_facts(HOST, stale_flow.NEEDS)
        resources, module = HostResources(), catalogue.fix(self.fix)
        for finding in stale_flow.detect(facts, {}):
            desired = module.desired(finding, facts, Terms())
            assert isinstance(desired, tuple)
            for wanted in desired:
                resources.check(wanted.resource, wanted.state)
                resources.write(wanted.resource, wanted.state)

    @property
    def column(self) -> str:
        """Return the form without its backend."""
        return self.name.partition(",")[0]


def _facts(store: str) -> Facts:
    seen = Netfilter(nf_tables=True, iptables=store, conntrack_used=True)
    return Facts(HOST, "", 0.0, known={"netfilter": seen})


def _form(fix: str, backend: str, store: str = "nft") -> Form:
    """Return a fix as one backend writes it, for all that :data:`USES` says."""
    module = catalogue.fix(fix)
    kind: Backend = "nftables" if backend in ("", "nftables") else "iptables"
    uses = tuple((finding, Terms(kind, False, params)) for finding, params in USES[fix])
    made: dict[str, Wanted] = {}
    for finding, terms in uses:
        desired = module.desired(finding, _facts(store), terms)
        assert isinstance(desired, tuple)
        for wanted in desired:
            before = made.get(wanted.resource)
            merge = getattr(module, "merge", None)
            made[wanted.resource] = merge(before, wanted) if before and merge else wanted
    return Form(f"{fix}, {backend}" if backend else fix, fix, tuple(made.values()), uses=uses)


_SERVED = [AT[4].host, AT[6].host]
USES: dict[str, tuple[tuple[Finding | None, dict[str, object]], ...]] = {
    "tcp-be-liberal": ((None, {}),),
    "invalid-drop": ((None, {}),),
    "udp-redirect": (
        (
            Finding(
                "udp-reply-source", "udp *:53", "proven", "high", "",
                details={
                    "port": "53",
                    "server": "wildcard",
                    "redirect": " ".join(f"docker0/{at.bridge}" for at in AT.values()),
                },
            ),
            {},
        ),
    ),
    "clamp-mss": (
        (
            Finding(
                "mtu-black-hole", "packets from c", "proven", "high", "",
                details={"link": "eth0", "protocols": "tcp"},
            ),
            {},
        ),
    ),
    "loopback-drop": (
        (Finding("route-localnet-exposure", "eth0", "exposed", "medium", ""), {}),
    ),
    "notrack": (
        (None, {"protocol": "udp", "ports": [53], "addresses": _SERVED}),
        (None, {"protocol": "tcp", "ports": [22, 2222], "addresses": _SERVED}),
    ),
}  # fmt: skip
"""What each fix is asked to do: finding and parameters."""


def _tried(chains: dict[str, str]) -> str:
    made = "".join(
        f"chain {hook} {{ type filter hook {hook} priority -10; {rule}; }}\n"
        for hook, rule in chains.items()
        if hook != "judge"
    )
    judge = f"chain judge {{ {chains['judge']}; }}\n" if "judge" in chains else ""
    return f"table inet tried {{\n{judge}{made}}}\n"


TRIED = (
    Form("output", rules=_tried({"output": "tcp flags == rst ct state invalid drop"})),
    Form(
        "socket",
        rules=_tried(
            {
                "judge": "socket wildcard 0 return; socket wildcard 1 return; drop",
                "input": "meta l4proto tcp ct state invalid jump judge",
            }
        ),
    ),
    Form(
        "link",
        rules=_tried(
            {
                "forward": "iifname docker0 oifname != docker0 meta l4proto tcp ct state invalid "
                "ip saddr 172.17.0.0/16 drop; iifname docker0 oifname != docker0 "
                "meta l4proto tcp ct state invalid ip6 saddr fd17::/64 drop"
            }
        ),
    ),
)
"""Forms of invalid-drop that were tried and are not used."""
FORMS = (
    _form("tcp-be-liberal", ""),
    *(
        _form(fix, *backend)
        for fix in ("invalid-drop", "udp-redirect", "notrack", "clamp-mss", "loopback-drop")
        for backend in (("nftables",), ("iptables-nft", "nft"), ("iptables-legacy", "legacy"))
    ),
    Form(ENDS, ENDS),
)
BROAD = Form("every", wanted=(Wanted("nft:inet/remedy_invalid_drop", OLDER),))
"""What earlier versions wrote; looked at last, because what it ends is slow to begin again."""
EVERYWHERE = ("tcp-be-liberal", "invalid-drop")
"""Fixes whose every backend is looked at in every world; of the others iptables writes what
nftables does, so it is looked at where there is UDP or a service of the host."""
BESIDE = {
    "clamp-mss": ("published port", "SYNPROXY, published port", "bridged, one link"),
    "loopback-drop": ("published port",),
    ENDS: ("masquerade", "published port", "direct return", "UDP services", "published UDP port"),
}
"""By fix that touches few packets: the worlds that it is looked at in beside its own."""
