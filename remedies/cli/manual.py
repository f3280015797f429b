"""What the man page has beside the help of every verb: ``python -m remedies.cli.manual``.

Printed as argparse-manpage's ``--include`` reads it: a heading in brackets, then roff (man(7)).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from remedies.cli import parser, settings
from remedies.cli.topics import EXIT_CODES

FILES = {
    settings.FILE: "settings of this host (INI), for every verb",
    settings.DEFAULTS["state_dir"]: "journal, lock and boot files, a folder for each namespace",
}
_SEE_ALSO = ("nft(8)", "iptables(8)", "conntrack(8)", "sysctl(8)", "ansible-playbook(1)")


def build() -> parser.Parser:
    """Return the parser whose pages the man page holds."""
    return parser.build(short=True)


def sections() -> dict[str, str]:
    """Return the text of each section in roff, by its heading."""
    variables = {
        f"REMEDY_{name.upper()}": f"as --{name.replace('_', '-')}"
        for name in settings.FROM_ENVIRONMENT
    }
    variables["NO_COLOR, FORCE_COLOR"] = "no colour; colour off a terminal, too"
    examples = {
        f"remedy {words}": does
        for verb in parser.VERBS
        for words, does in importlib.import_module(f"remedies.cli.{verb}").EXAMPLES
    }
    return {
        "EXIT STATUS": _listed(EXIT_CODES),
        "ENVIRONMENT": _listed(variables),
        "FILES": _listed(FILES),
        "EXAMPLES": _listed(examples),
        "SEE ALSO": _roff(", ".join(_SEE_ALSO)) + "\n",
    }


def _listed(rows: dict[str, str]) -> str:
    return "".join(f".TP\n.B {_roff(name)}\n{_roff(text)}\n" for name, text in rows.items())


def _roff(text: str) -> str:
    """Return text that roff prints as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def lines() -> Iterable[str]:
    """Yield the include file."""
    for heading, text in sections().items():
        yield f"[{heading}]\n{text}"


if __name__ == "__main__":
    print("".join(lines()), end="")
