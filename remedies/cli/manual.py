"""The manual pages: one of the command, one of each verb. ``python -m remedies.cli.manual FOLDER``.

argparse-manpage makes them from the parsers; what no parser knows is added here, in roff (man(7)).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable

from argparse_manpage.manpage import Manpage

from remedies import __version__
from remedies.cli import parser, settings
from remedies.cli.topics import EXIT_CODES

FILES = {
    settings.FILE: "settings of this host (INI), for every verb",
    settings.DEFAULTS["state_dir"]: "journal, lock and boot files, a folder for each namespace",
}
_DOES = "find, prove, fix and undo the network faults that kill container traffic"
_SEE_ALSO = ("nft(8)", "iptables(8)", "conntrack(8)", "sysctl(8)", "ansible-playbook(1)")


def pages() -> dict[str, str]:
    """Return the text of each page by its name, as man(1) is asked for it."""
    front = parser.build(bare=True)
    parser.verbs(front).clear()  # what stays of a verb is its line: each has a page
    others = tuple(f"remedy-{verb}(1)" for verb in parser.VERBS)
    found = {"remedy": _page("remedy", front, _DOES, _examples(*parser.VERBS), others)}
    for verb, tree in parser.verbs(parser.build(short=True)).items():
        name = f"remedy-{verb}"
        found[name] = _page(name, tree, parser.VERBS[verb], _examples(verb), ("remedy(1)",))
    return found


def _page(
    name: str,
    tree: argparse.ArgumentParser,
    does: str,
    examples: dict[str, str],
    others: tuple[str, ...],
) -> str:
    given = {
        "description": does,
        "project_name": "remedies",
        "version": __version__,
        "manual_title": "remedy manual",
    }
    page = Manpage(tree, given)
    page.prog = name
    for heading, text in _sections(examples, others).items():
        page.add_section(heading, ">", text)
    return str(page)


def _sections(examples: dict[str, str], others: tuple[str, ...]) -> dict[str, str]:
    """Return what no parser knows, in roff, by its heading."""
    variables = {
        f"REMEDY_{name.upper()}": f"as --{name.replace('_', '-')}"
        for name in settings.FROM_ENVIRONMENT
    }
    variables["NO_COLOR, FORCE_COLOR"] = "no colour; colour off a terminal, too"
    return {
        "EXIT STATUS": _listed(EXIT_CODES),
        "ENVIRONMENT": _listed(variables),
        "FILES": _listed(FILES),
        "EXAMPLES": _listed(examples),
        "SEE ALSO": _roff(", ".join((*others, *_SEE_ALSO))) + "\n",
    }


def _examples(*verbs: str) -> dict[str, str]:
    return {
        f"remedy {words}": does
        for verb in verbs
        for words, does in importlib.import_module(f"remedies.cli.{verb}").EXAMPLES
    }


def _listed(rows: dict[str, str]) -> str:
    return "".join(f".TP\n.B {_roff(name)}\n{_roff(text)}\n" for name, text in rows.items())


def _roff(text: str) -> str:
    """Return text that roff prints as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def write(folder: str) -> Iterable[str]:
    """Write each page to a file of its own, and yield the files' paths. Raises OSError."""
    os.makedirs(folder, exist_ok=True)
    for name, text in pages().items():
        path = os.path.join(folder, f"{name}.1")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        yield path


if __name__ == "__main__":
    for path in write(sys.argv[1]):
        print(path)
