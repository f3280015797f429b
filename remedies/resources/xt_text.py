"""Our chain and its jumps in text for others: an undo script's commands, a playbook's tasks. Pure.

``program`` is ``iptables`` or ``ip6tables``. Which jumps are there is asked when the text runs:
after a boot there may be none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from remedies.errors import InputError
from remedies.resources import shell
from remedies.resources.tasks import Task, Text, done, looked, printed
from remedies.rules.ours import iptables_in_force, iptables_sections, iptables_split
from remedies.rules.restore_script import jumps_in, unsayable, words

_PRINTED = '"$1-restore" && exec "$1-save" -t "$2"'
_OURS = " | select('match', own[0]) | list"
_NONE = " | select('match', chain[0]) | list | length == 0"


def undo(program: str, path: str, before: Optional[str], after: Optional[str]) -> shell.Undo:
    """Take our chain away as one transaction a store, or put back the one that was there.

    Raises InputError for what no script could say.
    """
    table, chain = iptables_split(path)
    old, new = iptables_in_force(before, chain), iptables_in_force(after, chain)
    lines = "".join(
        _chain(
            f"{program}-{variant}",
            table,
            chain,
            old.get(variant, ()),
            jumps_in(new.get(variant, ()), chain),
        )
        for variant in {**new, **old}
    )
    needed = (f"{program}-{variant}{part}" for variant in {**old, **new} for part in _PARTS)
    return shell.Undo(lines, tuple(needed))


_PARTS = ("", "-restore")


def _chain(program: str, table: str, chain: str, old: Sequence[str], there: Sequence[str]) -> str:
    """Return the commands for one store: ``old`` lines come back, or none and the chain goes."""
    rules = [line for line in old if line.startswith(f"-A {chain} ")]
    jumps = jumps_in(old, chain)
    for line in old:
        words(line)
        if unsayable(line) or (line[:1] != ":" and line not in (*rules, *jumps)):
            raise InputError(f"a rule holds a newline: {line[:80]!r}", shell.HINT)
    moves = [("-D", line) for line in there if line not in jumps]
    moves += [("-I", line) for line in jumps]
    asked = "".join(
        " ".join(("jump", program, table, action, *map(shell.word, (line[3:], *words(line)[1:]))))
        + "\n"
        for action, line in moves
    )
    last = "".join(f"{line}\n" for line in (*rules, *(() if old else (f"-X {chain}",)), "COMMIT"))
    restore = f"{program}-restore --noflush -w"
    # Asked before: the restore program of the legacy store takes the lock before it reads.
    text = (
        f"jumps=$(\n{asked})\n{{\nprintf '*%s\\n:%s - [0:0]\\n' {table} {chain}\n"
        f"""[ -z "$jumps" ] || printf '%s\\n' "$jumps"\n"""
        f"{shell.fed('cat', last)}}} | {restore} ||\n"
        f'    {{ echo "failed: {restore}" >&2; failed=1; }}\n'
    )
    if old or not program.endswith("-legacy"):
        return text
    names = "ip6_tables_names" if program.startswith("ip6") else "ip_tables_names"
    return f"if loaded {table} {names}; then\n{text}fi\n"


def tasks(program: str, path: str, before: Optional[str], after: Optional[str]) -> Iterator[Task]:
    """Yield the own chain, then the jumps to it; to remove, the other way round.

    Raises InputError for a state that iptables-restore could not read back.
    """
    table, chain = iptables_split(path)
    new, old = iptables_sections(after), iptables_sections(before)
    for variant in sorted({*new, *old}):
        name = f"{program}-{variant}"
        lines, was = new.get(variant, ()), old.get(variant, ())
        if f":{chain} -" not in lines:
            if f":{chain} -" in was:
                yield from _removed(name, table, chain, jumps_in(was, chain))
            continue
        rules = [line for line in lines if line.startswith(f"-A {chain} ")]
        for line in rules:
            words(line)
        text = "\n".join([f"*{table}", f":{chain} - [0:0]", *rules, "COMMIT", ""])
        yield looked("Look at a chain", [f"{name}-save", "-t", table], (0,))
        yield printed(_PRINTED, [name, table], text)
        yield done(
            "Write a chain",
            [f"{name}-restore", "--noflush", "--wait"],
            f"printed.rc != 0 or (looked.stdout_lines{_OURS}) != "
            f"(printed.stdout_lines{_OURS}) or (looked.stdout_lines{_NONE})",
            stdin=text,
            own=Text(f"-A {chain} "),
            chain=f":{chain} ",
        )
        for jump in jumps_in(lines, chain):
            yield from _jump("Write a jump", name, table, jump, "-I", "looked.rc != 0")


def _removed(program: str, table: str, chain: str, jumps: Sequence[str]) -> Iterator[Task]:
    for jump in jumps:
        yield from _jump("Remove a jump", program, table, jump, "-D", "looked.rc == 0")
    yield looked("Look for a chain", [f"{program}-save", "-t", table], (0,))
    yield done(
        "Remove a chain",
        [f"{program}-restore", "--noflush", "--wait"],
        f"not (looked.stdout_lines{_NONE})",
        stdin=f"*{table}\n:{chain} - [0:0]\n-X {chain}\nCOMMIT\n",
        chain=f":{chain} ",
    )


def _jump(name: str, program: str, table: str, line: str, action: str, when: str) -> Iterator[Task]:
    begin = [program, "-w", "-t", table]
    yield looked("Look for a jump", [*begin, "-C", *words(line)[1:]], (0, 1, 2))
    yield done(name, [*begin, action, *words(line)[1:]], when)
