"""udev has given an overlay's link another MAC address than its owner told other hosts.

What it detects
    A vxlan or geneve link, or a veth link whose address a CNI writes into pods (``eni*`` and
    ``lxc*``), with the very address that udev makes of the link's name and the machine's id.

Why it matters
    systemd's own 99-default.link says ``MACAddressPolicy=persistent`` for every link since version
    242. A CNI makes a link, the kernel gives it a random address, the CNI tells it to other hosts
    or to pods, and a moment later udev writes another one: packets to the old address are dropped
    without a word. Pods on other nodes cannot be reached after a boot, or new pods for a while.

Evidence
    ``exposed``: the link, its address, and that it is the one that udev computes. Whether others
    know the old one is on other hosts. It was not seen on a kernel in the lab: udev serves the
    machine's own namespace.

False positives
    An owner that asks for the address again after udev has set it, as newer versions of flannel do.

References
    systemd.link(5): MACAddressPolicy; net_get_unique_predictable_data() of systemd;
    flannel-io/flannel#1155, kubernetes/kops#17933, awslabs/amazon-eks-ami#2316
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.overlays import TUNNELS, MacOfLink, Overlays
from remedies.model import Evidence, Finding, Severity

TITLE = "udev changed the MAC address of an overlay's link"
SYMPTOM = "pods on another node cannot be reached after a boot, or new pods not at once"
SEVERITY: Severity = "medium"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Overlays,)
PARAMS: Mapping[str, object] = {}

FILE = "/etc/systemd/network/10-overlay.link"


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each link that udev gave its address. Raises Unreadable."""
    return tuple(_finding(link) for link in facts.get(Overlays).links if link.by_udev)


def _finding(link: MacOfLink) -> Finding:
    name = link.link if link.kind in TUNNELS else f"{link.link[:3]}*"
    return Finding(
        condition="mac-address-policy",
        subject=link.link,
        verdict="exposed",
        severity=SEVERITY,
        message=(
            f"{link.link} has {link.address}, which udev set after the link was made: peers that "
            f"know its first address do not reach it. To keep udev away: printf '[Match]\\n"
            f"OriginalName={name}\\n[Link]\\nMACAddressPolicy=none\\n' > {FILE}; "
            "then let its owner make the link again"
        ),
        evidence=(
            Evidence("/sys/class/net", f"{link.link} address", link.address),
            Evidence("udev", "MACAddressPolicy=persistent gives", link.address),
        ),
    )
