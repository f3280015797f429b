"""Waivers: findings that somebody has accepted until a date. Pure; host side."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from remedies.model import Finding, Waiver
from remedies.values import replace


def expired(waiver: Waiver, today: str) -> bool:
    """Tell whether the waiver's last day is over; ``today`` is ``YYYY-MM-DD`` in UTC."""
    return waiver.until < today  # ISO dates of four-digit years sort as text


def apply(
    findings: Iterable[Finding], waivers: Iterable[Waiver], today: str
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return the findings, the waived ones saying so, and a warning for each expired waiver.

    ``today`` is ``YYYY-MM-DD`` in UTC. The first waiver that matches counts. A subject pattern is a
    shell pattern, case-sensitive, over the whole subject. An expired waiver waives nothing.
    """
    living = []
    warnings = []
    for waiver in waivers:
        if expired(waiver, today):
            warnings.append(
                f"waiver of {waiver.condition} on {waiver.subject!r} ({waiver.owner}) expired on"
                f" {waiver.until} and no longer counts; renew it or remove it"
            )
        else:
            living.append(waiver)
    return tuple(_judged(finding, living) for finding in findings), tuple(warnings)


def _judged(finding: Finding, waivers: list[Waiver]) -> Finding:
    """Return the finding with the first waiver that matches it written into it."""
    if not waivers:
        return finding

    for waiver in waivers:
        if waiver.condition == finding.condition and fnmatchcase(finding.subject, waiver.subject):
            text = f"{waiver.reason} ({waiver.owner}, until {waiver.until})"
            return replace(finding, waived=text)
    return finding
