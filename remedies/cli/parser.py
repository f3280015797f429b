"""The argument parser: the verbs, and the options that several verbs share."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from importlib.machinery import PathFinder

from remedies import __version__
from remedies.errors import UsageError
from remedies.printable import clean

TYPE_CHECKING = False  # typing's own takes loading it, a tenth of the first help page
if TYPE_CHECKING:
    from typing import Any, NoReturn, Optional

VERBS = {
    "scan": "detect faults and show the evidence; changes nothing",
    "plan": "show what would change, as a diff; changes nothing",
    "apply": "apply a plan (a saved one, or one made now); undo all of it when a step fails",
    "confirm": "keep the transaction that waits for confirmation, and write its boot files",
    "rollback": "undo a transaction (the last one by default), a fix, or everything",
    "init": "set this host's policy in /etc/remedy/remedy.conf, for all later commands",
    "status": "show what is in force, its counters, drift and unfinished transactions",
    "verify": "check that the fixes in force are unchanged and that the faults are gone",
    "check": "answer a monitoring system in one line: Nagios, Icinga, node-problem-detector",
    "trace": "watch resets, refusals and dropped packets; exit 2 if one proves a fault",
    "watch": "watch until stopped: what appears, changes and clears, and why",
    "history": "list the transactions of this host and namespace",
    "show": "show one transaction, its changes and how it ended; or a saved plan",
    "report": "write an audit report in several formats; changes nothing, exit 0 whatever it finds",
    "audit": "check the journal's hash chain (exit 65: altered), sign its head, repair it",
    "explain": "explain a condition, a fix, verdicts, risk or exit-codes",
    "list": "list conditions and fixes",
    "schema": "print the JSON Schema of what a verb prints with --json",
    "policy": "check policies, print their JSON Schema, show the effective one",
    "fleet": "scan, plan, apply, confirm, roll back and report on many hosts, through Ansible",
    "export": "write a plan and its rollback as playbooks with Ansible's own modules",
    "bundle": "write the single-file host tool: nothing to install on the hosts that run it",
    "lab": "reproduce a fault in throw-away namespaces, fix it, and undo it",
    "doctor": "show what this kernel, the libraries and your privileges allow",
    "completion": "print a shell completion script",
}
"""Every verb with its line of the first help page, which so imports none of them: look, change,
look back, learn, set up."""

_SHOWN_BY_LAB = (
    " 'remedy lab run tcp-invalid-reset' shows a fault, its proof, its fix and the way back in "
    "throw-away namespaces."
)
_TAKES_VALUE = ("--policy", "--netns", "--state-dir", "--lock-timeout", "--backend")


class _Page(argparse.HelpFormatter):
    """Knows the terminal's width without shutil, whose compressors every verb would import.

    argparse makes a formatter for each argument that is added, to check it.
    """

    def __init__(self, prog: str, **given: Any) -> None:
        super().__init__(prog, **{"width": columns() - 2, **given})


def columns() -> int:
    """Return the terminal's width as shutil finds it: COLUMNS, the terminal's size, else 80."""
    try:
        width = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        width = 0
    if width > 0:
        return width
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, with a guess at what was meant."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"formatter_class": _Page, **given})
        self.examples: tuple[tuple[str, str], ...] = ()

    def format_help(self) -> str:
        """Return the help page, with examples at its end as they are to be typed."""
        lines = [f"  remedy {words}\n      {does}\n" for words, does in self.examples]
        return super().format_help() + ("\nexamples:\n" + "".join(lines) if lines else "")

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; an unknown option or choice comes with the nearest known one."""
        raise UsageError(message + self._suggestion(message), f"see '{self.prog} --help'")

    def _suggestion(self, message: str) -> str:
        import difflib

        if "unrecognized arguments: " in message:
            wrong = message.partition("unrecognized arguments: ")[2].split()[0]
            known = [o for action in self._actions for o in action.option_strings]
        elif "invalid choice: '" in message:
            wrong = message.partition("invalid choice: '")[2].partition("'")[0]
            known = [str(c) for action in self._actions for c in action.choices or ()]
        else:
            return ""
        near = difflib.get_close_matches(wrong.partition("=")[0], known, n=1)
        return f"; did you mean {near[0]}?" if near else ""


def duration(text: str) -> float:
    """Return seconds of ``90s``, ``2m``, ``1h``, ``500ms`` or a bare number of seconds."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    number = text.rstrip("hms")
    unit = text[len(number) :] or "s"
    try:
        seconds = float(number) * units[unit]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration (90s, 2m, 1h)") from None
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and a day")
    return seconds


def watching(parser: argparse.ArgumentParser) -> None:
    """Add the option that every verb which runs detectors has."""
    parser.add_argument(
        "--window",
        type=duration,
        default=1.0,
        metavar="TIME",
        help="how long to watch counters and packets (default: 1s; 0: one reading)",
    )


def consenting(parser: argparse.ArgumentParser) -> None:
    """Add the options that every writing verb has."""
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show the diff and change nothing"
    )
    agreeing(parser)
    parser.add_argument(
        "--change-id", default="", metavar="ID", help="the change ticket, for the journal"
    )
    parser.add_argument(
        "-m", "--message", default="", metavar="TEXT", help="why, in your words, for the journal"
    )
    parser.add_argument(
        "--approved-by",
        default="",
        metavar="TEXT",
        help="who approved it, for the journal (default: who answers the question)",
    )


def agreeing(parser: argparse.ArgumentParser) -> None:
    """Add ``--yes``. ``yes`` holds the option that was given: ``playbook`` is what a play gives."""
    parser.add_argument(
        "-y", "--yes", action="store_const", const="--yes", default="", help="do not ask"
    )
    parser.add_argument(
        "--playbook", dest="yes", action="store_const", const="playbook", help=argparse.SUPPRESS
    )


def _everywhere() -> Parser:
    """Return the options that may be given before or after the verb. One not given sets nothing."""
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("options of every verb")
    group.add_argument(
        "--policy",
        action="append",
        metavar="FILE|NAME",
        help="policy file or shipped name; repeatable, later wins (default: default)",
    )
    group.add_argument(
        "--netns",
        metavar="NS",
        help="work in this network namespace: name, path, process id, or 'host': the machine's own",
    )
    group.add_argument("--state-dir", metavar="DIR", help="journal and lock (/var/lib/remedy)")
    group.add_argument(
        "--backend",
        choices=("auto", "nftables", "iptables"),
        help="where rules are written (default: what the policy says)",
    )
    group.add_argument(
        "--lock-timeout",
        type=duration,
        metavar="TIME",
        help="how long to wait for another writer (default: 10s)",
    )
    group.add_argument("--json", action="store_true", help="print JSON on standard output")
    group.add_argument(
        "--plain", action="store_true", help="no colour, no progress, no wrapped lines"
    )
    group.add_argument("--no-color", action="store_true", help="no colour")
    group.add_argument("--no-input", action="store_true", help="never ask")
    group.add_argument("-q", "--quiet", action="store_true", help="only the result")
    group.add_argument("-v", "--verbose", action="count", help="more detail; -vv: tracebacks")
    return common


def _untold() -> Parser:
    """Return the options of every verb for a verb's own help page, which only says of them."""
    common = _everywhere()
    for action in common._actions:
        action.help = argparse.SUPPRESS
    common._action_groups[-1].description = "before or after the verb: see 'remedy --help'"
    return common


def build(only: Optional[str] = None, *, bare: bool = False, short: bool = False) -> Parser:
    """Return the parser, with every verb or only the one that is going to run.

    A ``bare`` one knows the verbs without their arguments: all that the first help page shows.
    A ``short`` one's pages of verbs do not repeat the options of every verb.
    """
    common = _everywhere()
    of_verb = _untold() if short else common
    parser = Parser(
        prog="remedy",
        description="Find, prove, fix and undo the Linux networking faults that kill "
        "container traffic.",
        epilog="Start with 'remedy scan'; 'remedy help VERB' has examples."
        + (_SHOWN_BY_LAB if has("lab") else ""),
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"remedy {__version__}")
    # With prog given, argparse formats no usage here.
    verbs = parser.add_subparsers(
        dest="verb", metavar="VERB", title="verbs", parser_class=Parser, prog="remedy"
    )
    for name, line in VERBS.items():
        if only not in (None, name) or not has(name):
            continue
        verb = verbs.add_parser(
            name,
            help=line,
            description=line[0].upper() + line[1:] + ".",
            parents=[] if bare else [of_verb],
            allow_abbrev=False,
        )
        if not bare:
            module = _module(name)
            module.arguments(verb)
            verb.examples = module.EXAMPLES
            verb.set_defaults(run=module.run)
    return parser


def verbs(tree: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the parser of each verb, or of each action of a verb, by name; none where none is."""
    for action in tree._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _module(name: str) -> Any:
    """Import what runs alone: no verb pays for another."""
    return importlib.import_module(f"remedies.cli.{name}")


def has(name: str) -> bool:
    """Tell whether the verb is here: the single-file tool lacks those of the control side."""
    return PathFinder.find_spec(name, [os.path.dirname(__file__)]) is not None


def parse(words: list[str]) -> argparse.Namespace:
    """Parse a command line. Raises UsageError; exits only for --help and --version.

    No verb, on a terminal, is a first look at the host.
    """
    first_word = _first_word(words)
    if first_word is not None and words[first_word] == "help":
        words = [*words[:first_word], *words[first_word + 1 :], "--help"]
    verb = _verb_of(words)
    if verb is None:
        if not words and not sys.stdout.isatty():
            words = ["--help"]
        first = build(bare=True)
        for word in words:
            if not word.startswith("--"):
                break
            if word.partition("=")[0] not in first._option_string_actions:
                first.error(f"unrecognized arguments: {word}")
        args = first.parse_args(words)
        if not sys.stdout.isatty():
            raise UsageError("no verb given", "see 'remedy --help'")
        args.run = _module("first_look").run
        return args
    if not has(verb):
        raise UsageError(f"the single-file tool has no verb {verb!r}", "an installed remedy has it")
    parser = build(verb, short="--help" in words or "-h" in words)
    args, left = parser.parse_known_args(words)
    if left:
        _of_action(parser, args).error(f"unrecognized arguments: {' '.join(left)}")
    return args


def _of_action(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Any:
    """Return the parser of the verb, or of its action: the one that knows the options wanted."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and getattr(args, action.dest, None):
            return _of_action(action.choices[getattr(args, action.dest)], args)
    return parser


def _verb_of(words: list[str]) -> Optional[str]:
    """Return the verb if it is one we know, so that only its module is imported."""
    first = _first_word(words)
    return words[first] if first is not None and words[first] in VERBS else None


def _first_word(words: list[str]) -> Optional[int]:
    """Return where the first word stands that is no option; None for none before ``--help``."""
    value = False
    for number, word in enumerate(words):
        if value:
            value = False
        elif word in _TAKES_VALUE:
            value = True
        elif not word.startswith("-"):
            return number
        elif word in ("-h", "--help", "--version"):
            return None
    return None


def warn(message: str) -> None:
    """Print a warning on standard error."""
    print(f"remedy: {clean(message)}", file=sys.stderr)
