"""systemd-networkd will remove the routing rules that another program lives by.

What it detects
    systemd-networkd manages a link, its setting ``ManageForeignRoutingPolicyRules`` is not ``no``,
    and there are routing rules that neither the kernel nor networkd added.

Why it matters
    networkd takes every rule that is in none of its files for a leftover, and removes it when it
    configures a link: after ``networkctl reload`` and ``netplan apply``, and in newer versions
    whenever it starts, as after an update (seen: 252 the one, 257 both). CNIs (Cilium,
    Calico, the VPC CNI of AWS), VPNs and multi-homed hosts route by such rules; pods or the whole
    host are cut off until their owner happens to write them again.

Evidence
    ``exposed``: the rules by number and table, and the files that decide the setting. When networkd
    does it cannot be foreseen, so it is never more. It was not seen on a kernel in the lab, which
    has no systemd: a test boots a machine, and sees the rules go, and stay by the advice.

False positives
    Rules whose owner restores them at once (some CNIs watch them), and rules that somebody wrote by
    hand for a while. Versions of systemd before 249 do not know the setting; 247 was not seen to
    remove rules.

References
    networkd.conf(5): ManageForeignRoutingPolicyRules, ManageForeignRoutes; systemd/systemd#19287,
    #41350; cilium/cilium#18706; aws/amazon-vpc-cni-k8s#1600
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.networkd import ROUTES, RULES, Networkd
from remedies.facts.routes import Routes
from remedies.model import Evidence, Finding, Severity

TITLE = "systemd-networkd would remove another program's routing rules"
SYMPTOM = "pods or the whole host lose their way out after a netplan apply or an update of systemd"
SEVERITY: Severity = "high"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Networkd, Routes)
PARAMS: Mapping[str, object] = {}

DROP_IN = "/etc/systemd/networkd.conf.d/50-foreign-rules.conf"
_SHOWN = 5


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding where such rules are at networkd's mercy. Raises Unreadable."""
    networkd = facts.get(Networkd)
    if not (networkd.running and networkd.network and networkd.takes_rules):
        return ()
    rules = facts.get(Routes).foreign_rules
    if not rules:
        return ()
    keys = (RULES, *((ROUTES,) if networkd.takes_routes else ()))
    lines = "\\n".join(("[Network]", *(f"{key}=no" for key in keys)))
    count = f"{len(rules)} routing rule" + ("s" if len(rules) > 1 else "")
    return (
        Finding(
            condition="networkd-foreign-rules",
            subject="routing rules",
            verdict="exposed",
            severity=SEVERITY,
            message=(
                f"systemd-networkd removes {count} that it did not add, when it configures a link "
                f"(netplan apply, a start); to keep them: mkdir -p {DROP_IN.rpartition('/')[0]} && "
                f"printf '{lines}\\n' > {DROP_IN}; then restart networkd, "
                "at a time when losing them once more does no harm"
            ),
            evidence=(
                *(Evidence("rtnetlink", "rule", rule) for rule in rules[:_SHOWN]),
                Evidence("networkd", ".network file", networkd.network),
                Evidence("networkd.conf", RULES, "yes", ", ".join(networkd.files) or "by default"),
            ),
        ),
    )
