"""``remedy init``: name the host's policy in the settings file, for every verb from now on.

Without it a policy is in use only for the command line that names it, and the next ``remedy apply``
uses ``default``. The settings file is not a resource and no transaction writes it: run the same
verb with the earlier policy to undo it.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os

from remedies import shipped
from remedies.cli import consenting, files, settings, starting, writing
from remedies.cli.next_command import again
from remedies.cli.parser import agreeing
from remedies.errors import ConfigError, UsageError
from remedies.model import FORMAT_VERSION
from remedies.policy.sources import anywhere

EXAMPLES = (
    ("init --policy docker-host", "use this shipped policy from now on"),
    (
        "init --policy /etc/remedy/policy.yaml --persist",
        "use this file, and keep fixes over reboots",
    ),
)


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
    named = _named(args)
    starting.load_policy(args)
    if not args.dry_run:
        writing.need_root("init")
    before = _read(settings.FILE)
    wanted: dict[str, object] = {"policy": named}
    if "persist" in args.typed:
        wanted["persist"] = args.persist
    after = edited(before, wanted)
    if not args.json:
        print(_diff(settings.FILE, before, after) or f"{settings.FILE} already says so.")
    if after != before and not args.dry_run:
        consenting.ask(args, f"Write {settings.FILE}?")
        os.makedirs(os.path.dirname(settings.FILE), mode=0o755, exist_ok=True)
        files.write_bytes(settings.FILE, after.encode(), 0o644)
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
            "which policy should this host use?", f"--policy {'|'.join(shipped.POLICIES)}|FILE"
        )
    if args.policy == ["-"]:
        raise UsageError(
            "a policy on standard input cannot be read again later", "save the policy as a file"
        )
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

    Raises ConfigError for a value that a settings file cannot hold.
    """
    lines, dropping = [], False
    for line in text.splitlines():
        if line and not line[0].isspace() and line[0] not in "#;":  # a key begins, or the section
            dropping = line.partition("=")[0].strip().lower() in wanted
        if not dropping or not line.strip() or line.lstrip()[0] in "#;":
            lines.append(line)
    before = settings.parsed(text)
    if not before and "[remedy]" not in lines:
        lines.append("[remedy]")
    told = {key: _as_setting(value) for key, value in wanted.items()}
    lines += [f"{key} = {value}".replace("\n", "\n    ") for key, value in told.items()]
    made = "\n".join(lines) + "\n"
    expected = {key: value.lstrip("\n") for key, value in {**before, **told}.items()}
    found = {key: value.lstrip("\n") for key, value in settings.parsed(made).items()}
    if found != expected:
        raise ConfigError(
            f"{settings.FILE}: it cannot be edited so that it holds {wanted['policy']}",
            "give the file another name, or put it into the settings yourself",
        )
    return made


def _as_setting(value: object) -> str:
    """Return a value as the file has it; several policies stand on a line each."""
    if isinstance(value, bool):
        return "true" if value else "false"
    names = [str(item) for item in (value if isinstance(value, list) else [value])]
    for name in names:
        if not name.isprintable() or name != name.strip():
            raise ConfigError(f"{name!r}: not usable in a settings file", "give it another name")
    return names[0] if len(names) == 1 else "\n".join(["", *names])


def _diff(path: str, before: str, after: str) -> str:

    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{path} (now)", f"{path} (wanted)", lineterm=""
    )
    return "\n".join(lines)
