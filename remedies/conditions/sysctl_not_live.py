"""A line of sysctl.d did not take effect: the key was not there yet when the lines were read.

What it detects
    A line of sysctl.d sets a key of nf_conntrack or br_netfilter, and the key has the value that
    the kernel gives it when the module is loaded.

Why it matters
    systemd-sysctl reads the lines once, early in the boot. Docker, kube-proxy and firewalls load
    these modules later, and the keys begin with the kernel's defaults. Somebody has set what the
    host needs, sees it in the file, and does not have it: after every boot, and only until somebody
    runs sysctl by hand.

Evidence
    ``exposed``: the line, and the value in /proc/sys. It was not seen on a kernel in the lab, which
    has no boot files: a test boots a machine, follows the advice there, and reboots it.

False positives
    A program that sets the key back to the kernel's default on purpose (kube-proxy does for what
    its configuration says). Values other than the default are not reported: somebody set them.

References
    sysctl.d(5), modules-load.d(5); systemd/systemd#1113, #43362; br_netfilter_hooks.c,
    nf_conntrack_proto_tcp.c of the kernel
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from remedies.facts import Facts
from remedies.facts.declared import DEFAULTS, Declared
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity

TITLE = "A setting of sysctl.d did not take effect"
SYMPTOM = "a sysctl that is in a file is back at the kernel's default after every boot"
SEVERITY: Severity = "medium"
AREA = "conntrack"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Declared, Sysctl)
PARAMS: Mapping[str, object] = {}


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each such line. Raises Unreadable."""
    return tuple(_found(facts))


def _found(facts: Facts) -> Iterator[Finding]:
    sysctl = facts.get(Sysctl)
    for key, said in facts.get(Declared).keys.items():
        module, default = DEFAULTS[key]
        live = sysctl.get(key)
        if live != default or said.value == default or f"sysctl:{key}" in facts.ours:
            continue
        yield Finding(
            condition="sysctl-not-live",
            subject=key,
            verdict="exposed",
            severity=SEVERITY,
            message=(
                f"{said.line} sets {key} to {said.value}, and it is {live}, the kernel's default: "
                f"{module} was loaded after the lines were read; now: sysctl -w "
                f"{key}={said.value}; at boot: echo {module} > /etc/modules-load.d/{module}.conf"
            ),
            evidence=(
                Evidence("sysctl.d", said.line, said.value),
                Evidence("/proc/sys", key, str(live), "the kernel's default"),
            ),
        )
