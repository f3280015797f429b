"""How the scans of all network namespaces are shown (``remedy scan --all-netns``).

JSON: the keys of the scan of the namespace that the command runs in, and ``namespaces``, a list
with one object for each of the others. Such an object has the keys ``host``, ``time``,
``findings`` and ``unknown`` of a scan, and

``netns``
    what ``--netns`` takes to work in it: a name, a path or a process id.
``netns_name``
    its name in /run/netns, or the path of its name elsewhere; null where it has none.
``container``, ``container_id``
    the container whose processes are in it, by name where a daemon tells it; several are joined
    by ", "; null where there is none.

Each finding in it carries ``netns_name`` and ``container``, too. A namespace that could not be
scanned has every condition among its ``unknown``.
"""

from __future__ import annotations

from typing import Any

from remedies.cli.render import brief, findings_text, scan_text
from remedies.cli.terminal import Style, clean
from remedies.model import PolicyRef
from remedies.operations.scan_all import ScannedNamespace
from remedies.planning import planfile


def title(place: ScannedNamespace) -> str:
    """Return what a person calls a namespace."""
    spec = place.namespace.spec
    if not place.container:
        return f"namespace {spec}" if place.namespace.name else f"namespace of process {spec}"
    return f"container {place.container}"


def plain(places: tuple[ScannedNamespace, ...], policy: PolicyRef) -> dict[str, Any]:
    """Return all scans as plain JSON values: see the module's docstring."""
    own, *others = places
    return {
        **planfile.scan_plain(own.scan, policy),
        "namespaces": [_plain(place, policy) for place in others],
    }


def _plain(place: ScannedNamespace, policy: PolicyRef) -> dict[str, Any]:
    whose = {
        "netns_name": place.namespace.name or None,
        "container": place.container or None,
    }
    scan = planfile.scan_plain(place.scan, policy)
    return {
        "netns": place.namespace.spec,
        **whose,
        "container_id": ", ".join(place.namespace.containers) or None,
        "host": scan["host"],
        "time": scan["time"],
        "findings": [{**finding, **whose} for finding in scan["findings"]],
        "unknown": scan["unknown"],
    }


def brief_lines(places: tuple[ScannedNamespace, ...], style: Style) -> list[str]:
    """Return one line for each finding and what could not be judged, with the way there."""
    return [
        line if place.namespace.own else f"{line}  --netns {clean(place.namespace.spec)}"
        for place in places
        for line in brief(place.scan, style)
    ]


def text(
    places: tuple[ScannedNamespace, ...], policy: PolicyRef, style: Style, *, verbose: int
) -> str:
    """Return each namespace's findings under its title; those with none are counted last."""
    own, *others = places
    parts = [scan_text(own.scan, policy, style, verbose=verbose)]
    quiet = []
    for place in others:
        if not place.scan.findings and all(u.partly for u in place.scan.unknown):
            quiet.append(title(place))
            continue
        way = style("dim", clean(f"--netns {place.namespace.spec}"))
        parts.append(f"{style('bold', clean(title(place)))}  {way}")
        parts.append(_body(place, style, verbose))
    if quiet:
        names = f": {', '.join(quiet)}" if verbose else "; -v names them"
        parts.append(clean(f"Nothing found in {len(quiet)} other namespaces{names}."))
    return "\n\n".join(parts)


def _body(place: ScannedNamespace, style: Style, verbose: int) -> str:
    reasons = {unknown.reason for unknown in place.scan.unknown if not unknown.partly}
    if not place.scan.findings and len(reasons) == 1:
        return f"{style.verdict('unknown')} {clean(reasons.pop())}"
    return findings_text(place.scan, style, verbose=verbose)
