"""What ``nft -j -f`` and ``iptables-restore --noflush`` are fed to write what is ours. Pure.

The texts go to those programs' standard input, from drivers, shell scripts, playbooks and boot
files alike. Whoever may write rules in a namespace chooses comments and names in it, so a text
that one of these programs would read as anything but one value is refused here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from remedies.errors import InputError
from remedies.rules.ours import iptables_in_force, iptables_split, nft_split
from remedies.values import dataclass

_WORD = r'"((?:[^"\\]|\\.)*)"|([^\s"]+)'
"""A word as iptables-save quotes it (xtables_save_string() in libxtables/xtables.c)."""
_NUL = r"(?<!\\)(?:\\\\)*\\u0000"
_HINT = "look at it and remove it yourself"
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_ ")
"""What a unit's command may hold of a rule: systemd.syntax(7) gives %, $ and quotes a meaning."""


def nft_objects(path: str, state: Optional[str]) -> list[dict[str, Any]]:
    """Return the objects of a table's state; raise InputError where one is not of this table."""
    family, table = nft_split(path)
    objects = []
    for line in (state or "").splitlines():
        try:
            item = json.loads(line)
            ((kind, body),) = item.items()
            owner = body["name"] if kind == "table" else body["table"]
            ours = body["family"] == family and owner == table
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"nft:{path}: not the state of a table: {line[:80]!r}") from error
        if not ours:
            raise InputError(f"nft:{path}: the state names another table: {line[:80]!r}")
        objects.append(item)
    return objects


def nft_commands(path: str, state: Optional[str]) -> list[dict[str, Any]]:
    """Return the transaction that leaves exactly ``state``; raise InputError for a bad one."""
    family, table = nft_split(path)
    name = {"table": {"family": family, "name": table}}
    return [{"add": name}, {"delete": name}, *({"add": o} for o in nft_objects(path, state))]


def nft_batch(path: str, state: Optional[str]) -> str:
    """Return what ``nft -j -f`` reads to replace our table by ``state``, or to remove it.

    libnftables-json(5), one command a line: printable ASCII alone, so that no name and no comment
    is a line of its own or a word of nft's. Raises InputError for a state that is not of this
    table, and for characters that JSON can say and nft cannot take.
    """
    commands = [{"metainfo": {"json_schema_version": 1}}, *nft_commands(path, state)]
    return '{"nftables": [\n' + ",\n".join(_plain(path, each) for each in commands) + "\n]}\n"


def _plain(path: str, command: dict[str, Any]) -> str:
    try:
        json.dumps(command, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"nft:{path}: a name or comment is not Unicode", _HINT) from error
    text = json.dumps(command, sort_keys=True).replace("\x7f", "\\u007f")
    if re.search(_NUL, text):
        raise InputError(f"nft:{path}: a name or comment holds a NUL", _HINT)
    return text


@dataclass(frozen=True)
class IptablesBatch:
    """What a unit of systemd feeds to ``iptables-restore --noflush`` where no jump of ours is."""

    variant: str
    table: str
    text: str
    jumps: tuple[str, ...]
    """``HOOK -j CHAIN``: what a unit deletes before, as iptables takes it behind ``-D``."""


def iptables_batch(path: str, state: Optional[str]) -> IptablesBatch:
    """Return what makes our chain and the jumps to it.

    Raises InputError for a state that is not of this chain, or that a unit cannot hold.
    """
    table, chain = iptables_split(path)
    sections = iptables_in_force(state, chain)
    if len(sections) != 1:
        raise InputError(f"iptables:{path}: the state of {len(sections)} variants, not of one")
    ((variant, lines),) = sections.items()
    rules = [line for line in lines if line.startswith(f"-A {chain} ")]
    jumps = [line[3:] for line in lines if line.startswith("-A ") and line not in rules]
    others = [line for line in lines if not line.startswith((":", "-A "))]
    others += [line for line in jumps if not line.endswith(f" -j {chain}")]
    if others:
        raise InputError(f"iptables:{path}: neither a rule nor a jump of ours: {others[:3]}")
    if not all(map(_PLAIN.issuperset, jumps)):
        raise InputError(f"iptables:{path}: a jump that a unit cannot hold: {jumps}")
    for line in rules:
        words(line)
    text = [f"*{table}", f":{chain} - [0:0]", *rules, *(f"-I {j}" for j in jumps), "COMMIT"]
    return IptablesBatch(variant, table, "".join(line + "\n" for line in text), tuple(jumps))


def words(line: str) -> tuple[str, ...]:
    r"""Return the words of a line of iptables-save as iptables-restore reads them.

    ``-m comment --comment "a \"b\""`` has the words ``-m``, ``comment``, ``--comment`` and
    ``a "b"``. Raises InputError where the line is not whole: a newline in a comment ends it.
    """
    found = list(_words(line))
    if not found:
        raise InputError(f"no rule: {line[:80]!r}", _HINT)
    return tuple(found)


def _words(line: str) -> Iterator[str]:
    place, pattern = 0, re.compile(_WORD)
    while place < len(line):
        word = pattern.match(line, place)
        if word is None or line[word.end() : word.end() + 1] not in ("", " "):
            raise InputError(f"iptables-restore cannot read it back: {line[:80]!r}", _HINT)
        quoted, plain = word.groups()
        yield plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        place = word.end() + 1


def lines_of(saved: str) -> list[str]:
    r"""Return the lines of iptables-save, a rule whose comment holds newlines as one.

    They are written ``\n`` in it, which makes the line one of those that :func:`unsayable` names.
    """
    lines: list[str] = []
    quoted = False
    for line in saved.split("\n"):
        if quoted:
            lines[-1] += "\\n" + line
        else:
            lines.append(line)
        plain = line.replace("\\\\", "").replace('\\"', "")
        quoted ^= plain.count('"') % 2 == 1
    return lines[:-1] if lines[-1] == "" else lines


_ESCAPED = "\"\\'"
"""What iptables-save writes behind a backslash (libxtables/xtables.c, xtables_save_string())."""


def unsayable(line: str) -> bool:
    """Tell that no iptables-restore could be fed this rule: it reads lines, and UTF-8."""
    return any(part[:1] not in _ESCAPED for part in line.replace("\\\\", "").split("\\")[1:])


def jumps_in(lines: Sequence[str], chain: str) -> list[str]:
    """Return the lines of iptables-save that send packets to ``chain``."""
    own = f"-A {chain} "
    ways = (f" -j {chain}", f" -g {chain}")
    return [line for line in lines if line.endswith(ways) and not line.startswith(own)]


def replacing(
    table: str,
    chain: str,
    jumps: tuple[str, ...],
    rules: tuple[str, ...],
    there: Sequence[str],
) -> str:
    """Return what replaces our chain and the jumps to it in one transaction.

    A ``:CHAIN`` line empties the chain or makes it; jumps come first in their chains, where no
    other rule can end a packet before them, and only where they are missing from ``there``.
    """
    spare = list(there)
    for jump in jumps:
        if jump in spare:
            spare.remove(jump)
    removed = tuple("-D" + jump[2:] for jump in spare)
    missing = tuple("-I" + jump[2:] for jump in jumps if jump not in there)
    lines = (f"*{table}", f":{chain} - [0:0]", *rules, *removed, *missing, "COMMIT")
    return "".join(line + "\n" for line in lines)


def removing(table: str, chain: str, there: Sequence[str]) -> str:
    """Return what removes our chain and the jumps to it, which are ``there``."""
    jumps = "".join(f"-D{jump[2:]}\n" for jump in there)
    return f"*{table}\n{jumps}-F {chain}\n-X {chain}\nCOMMIT\n"
