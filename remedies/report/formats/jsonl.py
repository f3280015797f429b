"""The record as JSON lines, one thing a line: for log shippers and ``jq``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from remedies import codec
from remedies.report.record import FORMAT_VERSION, HostReport, Report
from remedies.values import replace

HELP = "JSON lines: the report, then each host, judgement and transaction"


def render(report: Report) -> Iterator[str]:
    """Yield a line for the report, each host, each judgement, each transaction."""
    head = {"tool": codec.encode(report.tool), "made": report.made, "by": codec.encode(report.by)}
    rest = {"since": report.since, "run": report.run, "hosts": len(report.hosts)}
    yield _line("report", {**head, **rest})
    for host in report.hosts:
        yield from _host(host)
    for missing in report.unreached:
        yield _line("unreached", codec.encode(missing))


def _host(host: HostReport) -> Iterator[str]:
    name = {"host": host.place.name, "netns": host.place.netns}
    own = codec.encode(replace(host, judgements=(), deeds=()))
    yield _line("host", {key: own[key] for key in own if key not in ("judgements", "deeds")})
    for judgement in host.judgements:
        yield _line("judgement", {**name, **codec.encode(judgement)})
    for deed in host.deeds:
        plain = codec.encode(deed)
        yield _line("transaction", {**name, "action": plain.pop("kind"), **plain})


def _line(kind: str, plain: dict[str, Any]) -> str:
    head = {"format_version": FORMAT_VERSION, "kind": kind}
    return json.dumps({**head, **plain}, separators=(",", ":")) + "\n"
