"""``remedy trace``: resets, refusals and dropped packets as they happen; what they prove."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Optional

from remedies.cli import interrupted, writing
from remedies.cli.consenting import ask
from remedies.cli.parser import agreeing, duration
from remedies.cli.trace_json import JsonLines
from remedies.cli.trace_picture import FORMATS, PictureFiles
from remedies.cli.trace_text import TextLines
from remedies.errors import NotPermitted, Unreadable
from remedies.netfilter.packet_log import PacketLog
from remedies.operations import conntrack_log
from remedies.operations.session import cache_of
from remedies.trace.packet_ends import named
from remedies.trace.packet_filter import FORM, PacketFilter
from remedies.trace.packet_filter import parse as packet_filter
from remedies.trace.session import TraceSession
from remedies.trace.stop_signal import Ending

EXAMPLES = (
    ("trace", "watch for ten seconds"),
    ("trace --for 5m --syn", "watch for five minutes, and show repeated SYNs"),
    (
        "trace --packet 'udp from 172.17.0.2 to 10.21.17.99:4000'",
        "follow one conversation: where does it go, who answers, what drops it",
    ),
    ("trace --packet 'tcp to web:80' -o svg:web.svg", "draw it, too"),
    ("trace --rules --yes", "have nftables name the rules that drop, by a table of its own"),
    ("trace --invalid --yes", "have conntrack say why it calls packets INVALID"),
)

_TABLE = (
    "Add the nftables table 'inet remedy_trace_PID' until the trace ends? It marks packets; it "
    "accepts and drops none."
)
_SETTINGS = (
    "Set net.netfilter.nf_conntrack_log_invalid, nf_log.2 and nf_log.10 until the trace ends? They "
    "decide what is logged, and of no packet."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "--for",
        dest="seconds",
        type=duration,
        default=10.0,
        metavar="TIME",
        help="how long to watch (default: 10s); Ctrl-C ends it earlier",
    )
    parser.add_argument(
        "--syn",
        action="store_true",
        help="also show repeated connection attempts (SYN retransmissions)",
    )

    parser.add_argument(
        "--packet",
        type=packet_filter,
        metavar="WHICH",
        help=f"follow one conversation: {FORM}",
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="FORMAT:FILE",
        help="with --packet: draw the conversation when the trace ends, one of "
        f"{', '.join(FORMATS)}, and where to; repeatable",
    )
    parser.add_argument(
        "--rules",
        action="store_true",
        help="have nftables itself name the rules that drop: adds a table of remedy's own, which "
        "marks packets but accepts and drops none, until the trace ends",
    )
    parser.add_argument(
        "--invalid",
        action="store_true",
        help="have conntrack itself say why it calls packets INVALID: sets "
        "nf_conntrack_log_invalid and where it is said, and puts both back when the trace ends",
    )
    agreeing(parser)
    parser.set_defaults(dry_run=False)


def run(args: argparse.Namespace) -> int:
    """Trace and print; 2 where something is proven. Ctrl-C and SIGTERM still get the summary."""
    out = JsonLines() if args.json else TextLines(args)
    wanted = named(args.packet)
    drawn = PictureFiles(args.output, wanted)
    if args.rules:
        ask(args, _TABLE)

    def trace(log: Optional[PacketLog] = None) -> int:
        """Trace, print and return the exit code; ``log``: where conntrack says its sentences."""
        session = TraceSession(
            syn=args.syn, wanted=wanted, cache=cache_of(args.state_dir), rules=args.rules, log=log
        )
        with Ending() as ending, session:
            _begin(args, wanted)
            for told in session.events(args.seconds, ending):
                out.told(told)
                drawn.told(told)
            summary = session.summary()
        out.summary(summary)
        drawn.summary(summary)
        if ending.signal is not None:
            return 128 + ending.signal
        proven = summary.proven or any(each.verdict == "proven" for each in summary.findings)
        return 2 if proven else 0

    try:
        return _with_sentences(args, trace) if args.invalid else trace()
    except Unreadable as error:
        if isinstance(error.__cause__, PermissionError):
            raise NotPermitted("trace: a packet socket is not permitted", "run as root") from None
        raise


def _with_sentences(args: argparse.Namespace, trace: Callable[[PacketLog], int]) -> int:
    """Have conntrack say why it calls packets INVALID, until ``trace`` has ended.

    Raises what :func:`ask` and :func:`conntrack_log.while_said` raise.
    """
    here = writing.start(args, "trace --invalid", "go without --invalid")
    agreed = ask(args, _SETTINGS)
    return interrupted.told(
        here,
        lambda: conntrack_log.while_said(here, agreed, args.seconds, args.lock_timeout, trace),
    )


def _begin(args: argparse.Namespace, wanted: Optional[PacketFilter]) -> None:
    if not args.quiet:
        syns = ", repeated SYNs" if args.syn else ""
        what = f"resets, port unreachables{syns} and dropped packets"
        which = f" of {wanted}" if wanted else ""
        print(f"listening for {what}{which} for {args.seconds:g} s", file=sys.stderr, flush=True)
