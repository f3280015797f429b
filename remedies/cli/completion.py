"""``remedy completion``: a completion script; shtab makes those of bash and zsh."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from remedies import catalogue
from remedies.cli import parser
from remedies.cli.topics import TOPICS
from remedies.errors import RemedyError
from remedies.lab import scenarios
from remedies.libraries import how_to_add

EXAMPLES = (("completion bash", "print the script for bash: source it, or save it"),)

FILES = ("FILE", "FILE|NAME", "FORMAT:FILE", "INVENTORY", "PLAN", "TXN|PLAN")
FOLDERS = ("DIR",)
"""What a person is asked for that stands on the file system, by its name in the help."""
_FIRST = "__fish_use_subcommand"
"""True in fish while no verb has been typed."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(args: argparse.Namespace) -> int:
    """Print the script; 1 where shtab is not installed and the shell needs it."""
    tree = parser.build()
    _with_names(tree)
    if args.shell == "fish":
        print("\n".join(_fish(tree)))
        return 0
    try:
        import shtab
    except ImportError:
        raise RemedyError("completion needs shtab", how_to_add("shtab")) from None
    for _, inner in _parsers(tree):
        for action in inner._actions:
            kind = _kind(action)
            if kind:
                setattr(action, "complete", shtab.FILE if kind == "file" else shtab.DIRECTORY)  # noqa: B010
    print(shtab.complete(tree, shell=args.shell))
    return 0


def _parsers(
    tree: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yield every parser with the words that lead to it, the first one first."""
    yield words, tree
    for action in tree._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _parsers(inner, (*words, name))


def _with_names(tree: argparse.ArgumentParser) -> None:
    """Complete the names of conditions, fixes and scenarios for ``explain`` and ``lab``."""
    names = {
        ("explain", "id"): (*catalogue.condition_ids(), *catalogue.fix_ids(), *TOPICS),
        ("lab", "name"): scenarios.names(),
        ("rollback", "fix"): catalogue.fix_ids(),
    }
    for words, inner in _parsers(tree):
        for action in inner._actions:
            if words and (words[0], action.dest) in names:
                action.choices = names[words[0], action.dest]


def _kind(action: argparse.Action) -> str:
    name = str(action.metavar)
    return "file" if name in FILES else "folder" if name in FOLDERS else ""


def _fish(tree: argparse.ArgumentParser) -> Iterator[str]:
    """Yield fish's completions: verbs and actions first, then each one's options and names."""
    yield "complete -c remedy -f"
    for words, inner in _parsers(tree):
        if not words:
            seen = _FIRST
        else:
            seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in words)
        for action in inner._actions:
            yield from _fish_lines(seen, action)


def _fish_lines(seen: str, action: argparse.Action) -> Iterator[str]:
    head = f"complete -c remedy -n {_quoted(seen)}"
    if isinstance(action, argparse._SubParsersAction):
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        names = " ".join(action.choices)
        for name in action.choices:
            alone = seen
            if seen != _FIRST:
                alone = f"{seen}; and not __fish_seen_subcommand_from {names}"
            yield f"complete -c remedy -n {_quoted(alone)} -a {name} -d {_quoted(helps[name])}"
        return
    flags = [f"-l {o[2:]}" if o.startswith("--") else f"-s {o[1:]}" for o in action.option_strings]
    names = " ".join(map(str, action.choices or ()))
    value = f"-x -a {_quoted(names)}" if names else {"file": "-r -F", "folder": "-r -F"}.get(
        _kind(action), "" if action.nargs == 0 else "-x"
    )  # fmt: skip
    if flags:
        yield f"{head} {' '.join([*flags, value]).rstrip()} -d {_quoted(action.help or '')}"
    elif names:
        yield f"{head} -a {_quoted(names)}"
    elif _kind(action):
        yield f"{head} -F"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
