"""Which controls of NIST, CIS and DISA a condition speaks to.

NIST SP 800-53 revision 5: CM-3 (configuration change control), CM-6 (configuration settings),
SC-5 (denial-of-service protection), SC-7 (boundary protection), SI-2 (flaw remediation). CIS
Controls version 8: 4.4 (implement and manage a firewall on servers).

A control stands here only where the condition is evidence for or against it: SC-7 where packets
pass the host's boundary with addresses that NAT should have changed, SI-2 where the flaw is in
somebody's program, SC-5 where a table can be filled from outside. What a transaction records is
evidence for CM-3, and is marked so in the report.

Recommendations of CIS benchmarks and rules of STIGs ask for settings, and one of these faults is
what such a setting prevents: docker-proxy answers nobody where it is switched off (CIS Docker
Benchmark 1.6.0, 2.16; DISA Docker Enterprise 2.x STIG, V-235791). A finding says that it runs; no
finding does not say that it is off. For the other conditions none is claimed.
"""

from __future__ import annotations

from remedies import catalogue, site

_NIST = "NIST-800-53 "

CHANGE_CONTROL = f"{_NIST}CM-3"
"""What every transaction is evidence for."""


def controls(condition: str) -> tuple[str, ...]:
    """Return the control ids of a condition, as its file has them; none for one unknown here."""
    known = site.is_site(condition) or condition in catalogue.condition_ids()
    return catalogue.condition(condition).CONTROLS if known else ()


def nist(judged: tuple[str, ...]) -> tuple[str, ...]:
    """Return the bare ids of the NIST controls among control ids, as OSCAL writes them."""
    return tuple(c[len(_NIST) :].lower() for c in judged if c.startswith(_NIST))
