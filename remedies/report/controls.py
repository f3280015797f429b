"""Which controls a condition speaks to.

NIST SP 800-53 revision 5: CM-3 (configuration change control), CM-6 (configuration settings),
SC-5 (denial-of-service protection), SC-7 (boundary protection), SI-2 (flaw remediation). CIS
Controls version 8: 4.4 (implement and manage a firewall on servers).

A control stands here only where the condition is evidence for or against it. No recommendation of
a CIS benchmark and no rule of a STIG tests for any of these faults, so none is claimed; what a
transaction records is evidence for CM-3, and is marked so in the report.
"""

from __future__ import annotations

_NIST = "NIST-800-53 "
_FIREWALL = "CIS-Controls-8 4.4"

CHANGE_CONTROL = f"{_NIST}CM-3"
"""What every transaction is evidence for."""

_BY_CONDITION = {
    "tcp-invalid-reset": (f"{_NIST}CM-6", f"{_NIST}SC-7", f"{_NIST}SI-2", _FIREWALL),
    "notrack-breaks-nat": (f"{_NIST}CM-6", f"{_NIST}SC-7", _FIREWALL),
    "conntrack-pressure": (f"{_NIST}CM-6", f"{_NIST}SC-5"),
}
_OTHERS = (f"{_NIST}CM-6", f"{_NIST}SI-2")


def controls(condition: str) -> tuple[str, ...]:
    """Return the control ids of a condition."""
    return _BY_CONDITION.get(condition, _OTHERS)


def nist(judged: tuple[str, ...]) -> tuple[str, ...]:
    """Return the bare ids of the NIST controls among control ids, as OSCAL writes them."""
    return tuple(c[len(_NIST) :].lower() for c in judged if c.startswith(_NIST))
