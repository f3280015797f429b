"""``remedy completion``: a completion script for bash or zsh, made by shtab; for fish, by hand."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(args: argparse.Namespace) -> int:
    """Print the script; 1 where shtab is not installed and the shell needs it."""
    from remedies.cli import parser
    from remedies.errors import RemedyError

    if args.shell == "fish":
        print(_fish(parser.build()), end="")
        return 0
    try:
        import shtab
    except ImportError:
        raise RemedyError("completion needs shtab", "pip install 'remedies[terminal]'") from None
    print(shtab.complete(parser.build(), shell=args.shell))
    return 0


def _fish(tree: argparse.ArgumentParser) -> str:
    """Return fish's completions: verbs first, each verb's options after it."""
    lines = ["complete -c remedy -f"]
    (verbs,) = (a for a in tree._actions if isinstance(a, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in verbs._choices_actions}
    for name, verb in verbs.choices.items():
        lines.append(
            f"complete -c remedy -n __fish_use_subcommand -a {name} -d {_quoted(helps[name])}"
        )
        for action in verb._actions:
            flags = [
                f"-l {o[2:]}" if o.startswith("--") else f"-s {o[1:]}"
                for o in action.option_strings
            ]
            if flags:
                lines.append(
                    f"complete -c remedy -n '__fish_seen_subcommand_from {name}' "
                    f"{' '.join(flags)} -d {_quoted(action.help or '')}"
                )
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
