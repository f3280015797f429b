"""``remedy completion``: a completion script; shtab makes those of bash and zsh."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from remedies import catalogue
from remedies.cli import completion_names, parser
from remedies.errors import RemedyError
from remedies.lab import scenarios
from remedies.libraries import how_to_add

EXAMPLES = (("completion bash", "print the script for bash: source it, or save it"),)

FILES = ("FILE", "FILE|NAME", "FORMAT:FILE", "INVENTORY", "PLAN", "TXN|PLAN")
FOLDERS = ("DIR",)
"""What a person is asked for that stands on the file system, by its name in the help."""
NAMES = {
    "TXN": "transactions",
    "TXN|PLAN": "transactions",
    "NS": "namespaces",
    "FILE|NAME": "policies",
    "FORMAT:FILE": "formats",
    "RUN": "runs",
    "CONDITION": "conditions",
    "ANY ID": "ids",
}
"""What this host has names for, by its name in the help."""
_FIRST = "__fish_use_subcommand"
"""True in fish while no verb has been typed."""
_ASK = "remedy completion --names"
# Not compgen -W, which expands each word once more: a name would be run.
_BASH = """\
_remedy_{kind}() {{
  local name
  while IFS= read -r name; do
    [[ $name == "$1"* ]] && printf '%s\\n' "$name"
  done < <({ask} {kind} 2>/dev/null)
}}
_remedy_{kind}_or_file() {{
  _remedy_{kind} "$1"
  compgen -f -- "$1"
}}
"""
_ZSH = """\
_remedy_{kind}() {{
  local -a names=(${{(f)"$({ask} {kind} 2>/dev/null)"}})
  compadd -a names
}}
_remedy_{kind}_or_file() {{
  _remedy_{kind}
  _files
}}
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("shell", nargs="?", choices=("bash", "zsh", "fish"))
    what.add_argument(
        "--names",
        choices=tuple(completion_names.KINDS),  # shtab 1.7 asks for the first one
        help="what the scripts ask for: a name a line",
    )


def run(args: argparse.Namespace) -> int:
    """Print the script, or names; 1 where shtab is not installed and the shell needs it."""
    if args.names:
        print("\n".join(completion_names.names(args.names, args)))
        return 0
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
            if str(action.metavar) in NAMES:
                asked = f"_remedy_{NAMES[str(action.metavar)]}"
                asked += "_or_file" if _kind(action) else ""
                setattr(action, "complete", {"bash": asked, "zsh": asked})  # noqa: B010
                action.metavar = NAMES[str(action.metavar)]  # a colon would end zsh's description
            elif _kind(action):
                kind = shtab.FILE if _kind(action) == "file" else shtab.DIRECTORY
                setattr(action, "complete", kind)  # noqa: B010
    text = _BASH if args.shell == "bash" else _ZSH
    functions = "".join(text.format(kind=kind, ask=_ASK) for kind in completion_names.KINDS)
    print(shtab.complete(tree, shell=args.shell, preamble=functions))
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
    """Complete ids and scenarios, by verb: some of several kinds are called ID in the help."""
    names = {
        ("lab", "name"): scenarios.names(),
        ("rollback", "fix"): catalogue.fix_ids(),
    }
    asked = {("explain", "id"): "ANY ID", ("check", "ids"): "CONDITION"}
    for words, inner in _parsers(tree):
        for action in inner._actions:
            if words and (words[0], action.dest) in names:
                action.choices = names[words[0], action.dest]
            if words and (words[0], action.dest) in asked:
                action.metavar = asked[words[0], action.dest]


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
    if str(action.metavar) in NAMES:
        names = f"({_ASK} {NAMES[str(action.metavar)]} 2>/dev/null)"
    offered = f"-a {_quoted(names)}" if names else ""
    files = "-F" if _kind(action) else ""
    if flags:
        takes = "-r" if files else "" if action.nargs == 0 else "-x"
        line = [head, *flags, takes, files, offered, f"-d {_quoted(action.help or '')}"]
        yield " ".join(filter(None, line))
    elif files or offered:
        yield " ".join(filter(None, [head, files, offered]))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
