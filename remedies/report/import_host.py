"""What another host says of itself, made fit to stand in a report beside the others.

A record comes from a machine that may be faulty or in wrong hands. It may say what it likes of
itself, but not in a form that breaks a report: outcomes, severities, times and hashes must be of
their kind, and what a control or a title is called is not the host's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from remedies import catalogue, codec
from remedies.errors import InputError
from remedies.report import written
from remedies.report.controls import controls
from remedies.report.record import HostReport, Judgement
from remedies.values import replace

SIZE_LIMIT = 16 * 1024 * 1024
"""Characters of one host's record: some thousand transactions with their differences."""
_WORD = re.compile(r"(?:site\.)?[a-z0-9][a-z0-9-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_HIGHEST = 1e15
_CONDITIONS = 64
"""Each is a column of the page, for every host."""


def admit(text: str, name: str, where: str) -> HostReport:
    """Return the host of a report in the ``json`` format under the name an inventory gives it.

    Raises InputError where the text is not the report of one host.
    """
    if len(text) > SIZE_LIMIT:
        raise InputError(f"{where}: more than {SIZE_LIMIT} characters", "ask for less: --since 2d")
    hosts = written.plain(text, where).get("hosts")
    if not isinstance(hosts, list) or len(hosts) != 1:
        raise InputError(f"{where}: not the report of one host", "make it with 'remedy report'")
    host = codec.decode(HostReport, hosts[0], where)
    for what in _wrong(host):
        raise InputError(f"{where}: {what}", "remedy does not write this")
    place = host.place
    hostname = place.hostname or (place.name if place.name != name else "")
    return replace(
        host,
        place=replace(place, name=name, hostname=hostname),
        judgements=tuple(map(_named, host.judgements)),
    )


def _named(judgement: Judgement) -> Judgement:
    """Return a judgement with the title and the controls that we know its condition by."""
    name = judgement.condition
    known = name in catalogue.condition_ids()
    title = catalogue.condition(name).TITLE if known else judgement.title
    return replace(judgement, title=title, controls=controls(name))


def _wrong(host: HostReport) -> Iterator[str]:
    """Yield what would break a report."""
    times = [host.time]
    if len({judgement.condition for judgement in host.judgements}) > _CONDITIONS:
        yield f"more than {_CONDITIONS} conditions"
    for judgement in host.judgements:
        times.append(judgement.time)
        times += [item.time for item in judgement.evidence]
        if not _WORD.fullmatch(judgement.condition):
            yield f"{judgement.condition!r} is no condition"
    for deed in host.deeds:
        times += [deed.time, *filter(None, [deed.ended])]
    for series in host.series:
        times += [reading.time for reading in series.readings]
        if not all(0 <= reading.value <= _HIGHEST for reading in series.readings):
            yield f"{series.key!r} is not a counter"
    for time in dict.fromkeys(times):
        if not _is_time(time):
            yield f"{time!r} is not a time"
    if host.chain is not None and not _HASH.fullmatch(host.chain.head):
        yield f"{host.chain.head!r} is not a hash"


def _is_time(text: str) -> bool:
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
