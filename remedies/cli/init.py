"""``remedy init``: name the host's policy in the settings file, for every verb from now on.

Without it a policy holds for the command line that names it, and the next ``remedy apply`` is made
under ``default``. The settings file is this tool's own: it is no resource, no transaction writes
it, and the same verb with the policy that was named before puts it back.
"""

from __future__ import annotations

import argparse
import os

from remedies import shipped
from remedies.cli.parser import agreeing
from remedies.errors import ConfigError, UsageError
from remedies.policy.sources import anywhere


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    lasting = parser.add_mutually_exclusive_group()
    lasting.add_argument(
        "--persist",
        action="store_true",
        default=argparse.SUPPRESS,
        help="fixes come back at boot, whatever the policy says",
    )
    lasting.add_argument(
        "--no-persist",
        action="store_false",
        dest="persist",
        default=argparse.SUPPRESS,
        help="fixes last until the next boot, whatever the policy says",
    )
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show the diff and change nothing"
    )
    agreeing(parser)


def run(args: argparse.Namespace) -> int:
    """Write the settings file; 64 where no policy is named, 78 where it is no policy."""
    import json

    from remedies.cli import session, settings, writing
    from remedies.cli.next_command import again
    from remedies.model import FORMAT_VERSION

    named = _named(args)
    session.load_policy(args)
    if not args.dry_run:
        writing.need_root("init")
    before = _read(settings.FILE)
    wanted: dict[str, object] = {"policy": named}
    if "persist" in args.typed:
        wanted["persist"] = args.persist
    after = edited(before, wanted)
    if not args.json:
        print(_diff(settings.FILE, before, after) or f"{settings.FILE} says so already.")
    if after != before and not args.dry_run:
        writing.ask(args, f"Write {settings.FILE}?")
        os.makedirs(os.path.dirname(settings.FILE), mode=0o755, exist_ok=True)
        session.write_bytes(settings.FILE, after.encode(), 0o644)
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "init",
            "file": settings.FILE,
            **wanted,
            "changed": after != before and not args.dry_run,
            "before": before,
            "after": after,
        }
        print(json.dumps(plain, indent=2))
    elif not args.dry_run and not args.quiet:
        args.typed -= {"policy"}  # the file names it now
        print(f"\nNext: '{again(args, 'plan')}' shows what it would change on this host.")
    return 0


def _named(args: argparse.Namespace) -> list[str]:
    """Return the policies that the command line names, files as whole paths."""
    if args.netns:
        raise UsageError("the settings file is the machine's, not a namespace's", "omit --netns")
    if "policy" not in args.typed:
        raise UsageError(
            "which policy shall hold on this host?", f"--policy {'|'.join(shipped.POLICIES)}|FILE"
        )
    if args.policy == ["-"]:
        raise UsageError("standard input is gone once it is read", "save the policy as a file")
    return [anywhere(spec) for spec in args.policy]


def _read(path: str) -> str:
    """Return the settings file's text, empty where there is none; settings.fill() has judged it."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def edited(text: str, wanted: dict[str, object]) -> str:
    """Return the settings with ``wanted`` in them; every other line stays as it is.

    Raises ConfigError where the file is not written a key a line.
    """
    from remedies.cli import settings

    lines, dropping = [], False
    for line in text.splitlines():
        if line[:1] not in (" ", "-", "#", ""):  # a key begins
            dropping = line.partition(":")[0].strip() in wanted
        if not dropping or not line.strip() or line.startswith("#"):
            lines.append(line)
    for key, value in wanted.items():
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        lines.append(f"{key}: {_yaml(one)}")
    made = "\n".join(lines) + "\n"
    old = settings.parsed(text)
    try:
        found = settings.parsed(made)
    except ConfigError:
        found = None
    others = {k: v for k, v in old.items() if k not in wanted} if isinstance(old, dict) else {}
    if not isinstance(found, dict) or {k: v for k, v in found.items() if k not in wanted} != others:
        raise ConfigError(
            f"{settings.FILE}: it is not written a key a line, so it is not edited",
            f"put 'policy: {wanted['policy']}' into it yourself",
        )
    return made


def _yaml(value: object) -> str:
    """Return a value as YAML that needs no library to read."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    text = str(value)
    if not text.isprintable() or "'" in text or "\\" in text:
        raise ConfigError(f"{text!r}: no name for a settings file", "give the file another name")
    return text if text in shipped.POLICIES else f"'{text}'"


def _diff(path: str, before: str, after: str) -> str:
    import difflib

    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{path} (now)", f"{path} (wanted)", lineterm=""
    )
    return "\n".join(lines)
