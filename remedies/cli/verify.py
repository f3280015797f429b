"""``remedy verify``: whether the state is ours, and the fault gone."""

from __future__ import annotations

import argparse

from remedies.cli.scan import watching


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    watching(parser)


def run(args: argparse.Namespace) -> int:
    """Print status and scan; 2 for drift, an unfinished transaction or a fault still there."""
    import json

    from remedies.cli import outlook, session, status
    from remedies.cli.render import findings_text, host_line
    from remedies.cli.terminal import Style
    from remedies.planning import engine, planfile

    here = session.start(args, of_journal=True)
    found = status.entries(here)
    kinds = engine.needs_of_scan(here.policy)
    facts, harm = outlook.listen(here, here.held.values(), here.args.window, kinds)
    seen = outlook.outlook(here, found, harm)
    scan, _ = session.judge(here, facts)
    answered = {name for entry in found for name in _answers(entry.fix)}
    faults = [
        f
        for f in scan.findings
        if not f.waived
        and (
            f.verdict in ("active", "proven")
            or (f.condition in answered and f.verdict == "exposed")
        )
    ]
    if args.json:
        print(
            json.dumps(
                {
                    **planfile.scan_plain(scan, here.policy.ref()),
                    **status.plain(here, found, seen, "verify"),
                },
                indent=2,
            )
        )
    else:
        style = Style(args)
        print(
            host_line(scan.host, scan.time, here.policy.ref(), style),
            status.text(here, found, seen),
            findings_text(scan, style, verbose=args.verbose),
            sep="\n\n",
        )
    return 2 if faults or seen.bad or status.is_bad(here, found) else 0


def _answers(fix: str) -> tuple[str, ...]:
    from remedies import catalogue

    return catalogue.fix(fix).ANSWERS
