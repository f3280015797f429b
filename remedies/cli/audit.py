"""``remedy audit``: check that nobody altered the journal, sign its head, repair it."""

from __future__ import annotations

import argparse
import json
import re

from remedies.cli import files, repair
from remedies.cli.parser import agreeing
from remedies.cli.report import rollouts
from remedies.cli.terminal import clean
from remedies.errors import UsageError
from remedies.model import FORMAT_VERSION
from remedies.operations import audit as operation
from remedies.transaction.audit import Audit

EXAMPLES = (
    ("audit verify", "check the hash chain"),
    ("audit repair --dry-run", "show what a damaged journal still has"),
)

_ALTERED = 65


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "action",
        choices=("verify", "sign", "repair"),
        help="verify the chain, sign its head, or continue after damage with what can be read",
    )
    parser.add_argument("--head", metavar="HASH", help="verify: a head hash kept elsewhere")
    parser.add_argument(
        "--fleet", metavar="RUN", help="verify: against the head that this fleet run kept of --host"
    )
    parser.add_argument("--host", metavar="NAME", help="verify: the host's name in the inventory")
    parser.add_argument(
        "--run-dir", metavar="DIR", help="verify: folder of fleet runs (~/.local/state/remedy/runs)"
    )
    parser.add_argument(
        "--signed", metavar="FILE", help="verify: a signed statement; its signature is FILE.sig"
    )
    parser.add_argument(
        "--allowed-signers", metavar="FILE", help="verify: allowed signers file (ssh-keygen(1))"
    )
    parser.add_argument("--signer", metavar="NAME", help="verify: name of the required signer")
    parser.add_argument("--key", metavar="FILE", help="sign: the SSH key")
    parser.add_argument("-o", "--output", metavar="FILE", help="sign: file for the statement")
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="repair: show what is lost and what is kept"
    )
    agreeing(parser)
    parser.set_defaults(change_id="", message="", approved_by="")


def run(args: argparse.Namespace) -> int:
    """Check, sign or repair; 65 where the chain was altered or a signature is wrong."""
    if args.action == "repair":
        return repair.run(args)
    if args.dry_run or args.yes:
        raise UsageError("--dry-run and --yes are for 'audit repair'", "leave them out")
    return _sign(args) if args.action == "sign" else _verify(args)


def _verify(args: argparse.Namespace) -> int:
    head = _head(args)
    path, audit = operation.verify(args.state_dir, head)
    code = 0 if audit.holds(head) else _ALTERED
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "audit",
            "journal": path,
            "records": audit.records,
            "head": audit.head,
            "anchored": bool(audit.anchor),
            "problems": [
                {"record": p.record, "what": p.what, "where": p.where, "repaired": p.repaired}
                for p in audit.problems
            ],
            "repairs": [
                {"record": r.record, "time": r.time, "user": r.user, "segments": list(r.segments)}
                for r in audit.repairs
            ],
        }
        print(json.dumps(plain, indent=2))
        return code
    for problem in audit.problems:
        print(clean(f"{'repaired since' if problem.repaired else 'altered'}: {problem}"))
    for repaired in audit.repairs:
        print(clean(f"repaired: {repaired}"))
    if not audit.problems:
        print(clean(f"{path}: {audit.records} records, the chain is intact"))
    elif not audit.open:
        print(clean(f"{path}: {audit.records} records, the chain is intact since that repair"))
    print(f"head {audit.head}")
    print(_anchor(audit, head))
    return code


def _head(args: argparse.Namespace) -> str:
    """Return the head to anchor to; empty for none. Raises UsageError, InputError."""
    given = [f"--{name}" for name in ("head", "signed", "fleet") if getattr(args, name)]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} both name a head", "leave one out")
    if args.host and not args.fleet:
        raise UsageError("--host is for --fleet", "name the rollout with --fleet RUN")
    if args.signed:
        return _signed_head(args)
    if args.fleet:
        return _kept_head(args)
    head: str = args.head or ""
    if head and not re.fullmatch("[0-9a-f]{64}", head):
        raise UsageError(f"--head {head!r} is not a head hash", "give its 64 hexadecimal digits")
    return head


def _kept_head(args: argparse.Namespace) -> str:
    head: str = rollouts("give the head itself with --head").head(args)
    return head


def _anchor(audit: Audit, head: str) -> str:
    if not head:
        return (
            "verified only against itself: it does not show if the newest records were cut off "
            "or the whole chain was rewritten; keep the head elsewhere and pass it with --head"
        )
    if audit.anchor:
        return f"anchored: that head is record {audit.anchor} of {audit.records}"
    return (
        "altered: that head is not in the chain: the newest records were cut off, or it was "
        "rewritten"
    )


def _sign(args: argparse.Namespace) -> int:
    if not args.key or not args.output:
        raise UsageError("audit sign takes a key and a file", "add --key FILE and -o FILE")
    made = operation.statement(args.state_dir)
    files.write_file(args.output, made.text)
    operation.sign(args.output, args.key)
    print(f"signed {args.output}: {made.records} records, head {made.head}\n{operation.PROVES}")
    return 0


def _signed_head(args: argparse.Namespace) -> str:
    if not args.allowed_signers or not args.signer:
        raise UsageError(
            "a signature is checked against a signer",
            "add --allowed-signers FILE and --signer NAME",
        )
    text = files.read_file(args.signed)
    return operation.signed_head(text, args.signed, args.allowed_signers, args.signer)
