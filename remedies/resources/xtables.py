"""One chain of ours and the jumps to it, in the nf_tables and the legacy store of iptables.

``iptables`` and ``ip6tables`` are this module for one family each. The two stores are separate
rulesets (iptables-legacy(8), xtables-nft(8)): our chain is looked for in both, and the legacy
tools never run where the legacy store does not hold the table, because running them registers
it. Canonical texts are those of :mod:`remedies.rules.ours`; what they mean when written:

* a section with our chain: the chain holds these rules and each built-in chain named jumps to it
  once (a jump's position is not part of the state);
* no section with our chain in a store: chain and jumps are gone from that store;
* of the built-in chains that our jumps alone caused to exist in the nf_tables store, those that
  the text names stay; a text without a section of that store says that the table was not there,
  and goes when nothing is left.
"""

from __future__ import annotations

from remedies.errors import InputError, Unreadable, WriteFailed
from remedies.namespaces import netns
from remedies.resources import chain_copy, iptables_legacy, nf_tables
from remedies.resources.program import Late, run
from remedies.rules.ours import (
    iptables_in_force,
    iptables_sections,
    iptables_split,
    iptables_text,
    lines_of_state,
)
from remedies.rules.restore_script import jumps_in, lines_of, replacing, unsayable
from remedies.values import dataclass


@dataclass(frozen=True)
class Family:
    """What differs between ``iptables`` and ``ip6tables``."""

    version: int
    """4 or 6."""
    program: str
    nft: str
    """The nf_tables family."""
    loaded: str
    """The file that lists the legacy tables of this namespace (net/netfilter/x_tables.c)."""


_LISTED = 3.0
"""Seconds that iptables-nft-save may take to list a table; half a second for 50,000 rules."""

IPV4 = Family(4, "iptables", "ip", "/proc/thread-self/net/ip_tables_names")
IPV6 = Family(6, "ip6tables", "ip6", "/proc/thread-self/net/ip6_tables_names")


def read(family: Family, path: str) -> str | None:
    """Return the canonical text of our chain, None where neither chain nor nf_tables table is.

    Where our chain is not in the nf_tables store, the built-in chains that are say so.

    Raises Unreadable, and InputError for a chain that is not ours.
    """
    table, chain = iptables_split(path)
    found = nf_tables.built_in(family.nft, table)
    text = ""
    if nf_tables.chain_exists(family.nft, table, chain):
        text = _in_force(family, "nft", table, chain, found or ())
    elif found is not None:
        text = iptables_text("nft", table, tuple(sorted(f":{name}" for name in found)), ())
    if legacy_loaded(family, table):
        text += _in_force(family, "legacy", table, chain)
    return text or None


def legacy_loaded(family: Family, table: str) -> bool:
    """Tell whether this namespace has the legacy table; raise Unreadable."""
    try:
        with open(family.loaded, encoding="ascii") as names:
            return table in names.read().split()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unreadable(f"{family.loaded}: {error.strerror}", "run as root") from error


def _in_force(
    family: Family, variant: str, table: str, chain: str, bases: tuple[str, ...] = ()
) -> str:
    """Return the section of our chain in one store, empty where the chain is not there.

    ``bases``: the built-in chains to name beside those that jump to ours.
    """
    saved = _saved(family, variant, table, chain)
    if not any(line.startswith(f":{chain} ") for line in saved):
        return ""
    rules = tuple(line for line in saved if line.startswith(f"-A {chain} "))
    jumps = tuple(sorted(jumps_in(saved, chain)))
    hooks = sorted({f":{line.split()[1]}" for line in jumps} | {f":{name}" for name in bases})
    return iptables_text(variant, table, (*hooks, f":{chain} -"), (*jumps, *rules))


def _saved(family: Family, variant: str, table: str, chain: str, *options: str) -> list[str]:
    """Return lines of iptables-save, those about our chain among them."""
    if variant == "nft":
        out = chain_copy.saved(family.program, family.nft, table, chain, *options)
    else:
        out = run([f"{family.program}-{variant}-save", *options, "-t", table])
    return lines_of(out)


def write(family: Family, path: str, state: str | None) -> None:
    """Make it so in both stores; raise WriteFailed or InputError."""
    table, chain = iptables_split(path)
    sections = _checked(table, chain, state)
    wanted = iptables_in_force(state, chain)
    try:
        for variant, lines in wanted.items():
            jumped = _jumped(family, table, chain) if variant == "nft" else frozenset()
            _put(family, variant, table, chain, lines)
            nf_tables.remove_empty(family.nft, table, jumped - (_bases(sections) or jumped))
        if "nft" not in wanted:
            nf_tables.remove_chain(family.nft, table, chain, _bases(sections))
        if "legacy" not in wanted and legacy_loaded(family, table):
            iptables_legacy.write(family.version, table, chain, None)
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error


def _checked(table: str, chain: str, state: str | None) -> dict[str, tuple[str, ...]]:
    """Return the sections of a state; raise InputError where a line is not about our chain."""
    for line in lines_of_state(state):
        ours = line.startswith((f"-A {chain} ", "# iptables-")) or line in (
            f"*{table}",
            f":{chain} -",
            "COMMIT",
        )
        base = line[:1] == ":" and line[1:].isalnum()
        if not (ours or base or jumps_in([line], chain)):
            raise InputError(f"a state of {table}/{chain} holds the line {line[:80]!r}")
    return iptables_sections(state)


def _jumped(family: Family, table: str, chain: str) -> frozenset[str]:
    """Return the chains of the nf_tables store that jump to ours now."""
    jumps = jumps_in(_saved(family, "nft", table, chain), chain)
    return frozenset(line.split()[1] for line in jumps)


def _bases(sections: dict[str, tuple[str, ...]]) -> frozenset[str] | None:
    """Return the built-in chains to leave in the nf_tables store; None: not even the table."""
    if "nft" not in sections:
        return None
    return frozenset(line[1:] for line in sections["nft"] if line.startswith(":"))


def _put(family: Family, variant: str, table: str, chain: str, lines: tuple[str, ...]) -> None:
    rules = tuple(line for line in lines if line.startswith(f"-A {chain} "))
    jumps = tuple(jumps_in(lines, chain))
    if variant == "legacy":
        iptables_legacy.write(family.version, table, chain, (jumps, rules))
        return
    current = _saved(family, "nft", table, chain)
    text = replacing(table, chain, jumps, rules, jumps_in(current, chain))
    run_restore(family, "nft", text, "--wait")


def run_restore(family: Family, variant: str, text: str, *options: str) -> None:
    """Feed ``text`` to the restore program of one store; raise WriteFailed with its words."""
    try:
        run([f"{family.program}-{variant}-restore", "--noflush", *options], text)
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error


def check(family: Family, path: str, state: str | None) -> None:
    """Write ``state`` into an empty namespace and read it back; raise WriteFailed.

    Not only judged (--test): iptables-nft-restore takes a comment with a newline, and writes
    another rule then.
    """
    table, chain = iptables_split(path)
    _checked(table, chain, state)
    for variant, lines in iptables_in_force(state, chain).items():
        if variant == "nft":
            _listed(family, table)
        for line in filter(unsayable, lines):
            raise WriteFailed(
                f"{family.program}-restore cannot load the rule {line!r}: its comment holds "
                "a newline or is not text",
                "look at it and remove it yourself",
            )
        with netns.scratch():
            _put(family, variant, table, chain, lines)
            found = iptables_in_force(read(family, path), chain).get(variant, ())
        kept = [line for line in lines if line[:1] == "-"]
        if len(kept) != sum(line[:1] == "-" for line in found):
            raise WriteFailed(f"{path}: what {family.program} writes of it reads back differently")


def _listed(family: Family, table: str) -> None:
    """Raise WriteFailed where this iptables could not read back what it writes into a table.

    nft can give a table of iptables' names base chains of its own. iptables 1.8.9 and later list
    the rest; 1.8.7 lists nothing, or crashes once two base chains share a hook.
    """
    program = f"{family.program}-nft-save"
    try:
        said = run([program, "-t", table], seconds=_LISTED)
    except Late:
        return  # others write, and it begins again each time; what is written is read back anyway
    except Unreadable as error:
        raise WriteFailed(error.what, "set 'backend: nftables' in the policy") from error
    if "' is incompatible" in said:
        raise WriteFailed(
            f"{program}: {said.splitlines()[0].strip('# ')}",
            "somebody made this table with nft: set 'backend: nftables' in the policy",
        )


def same(family: Family, path: str, one: str | None, other: str | None) -> bool:
    """Tell whether two texts say the same of our chain.

    Which built-in chains exist beside it is somebody else's state. Texts that differ are
    compared as this iptables prints them after loading both in an empty namespace.
    """
    _, chain = iptables_split(path)
    first, second = (_of_ours(state, chain) for state in (one, other))
    if first == second:
        return True
    if first.keys() != second.keys():
        return False
    return _printed(family, path, one) == _printed(family, path, other)


def _of_ours(state: str | None, chain: str) -> dict[str, tuple[str, ...]]:
    """Return the sections of a state that hold our chain, without the built-in chains named."""
    return {
        variant: tuple(line for line in lines if line[:1] == "-")
        for variant, lines in iptables_in_force(state, chain).items()
    }


def _printed(family: Family, path: str, state: str | None) -> str | None:
    with netns.scratch():
        try:
            write(family, path, state)
        except WriteFailed:
            return state  # what cannot be loaded is the same as nothing but itself
        return read(family, path)


def counters(family: Family, path: str) -> dict[str, int]:
    """Return packets by rule of our chain, wherever it is; raise Unreadable."""
    table, chain = iptables_split(path)
    found: dict[str, int] = {}
    for variant in iptables_in_force(read(family, path), chain):
        for line in _saved(family, variant, table, chain, "-c"):
            figures, _, rule = line.partition(f" -A {chain} ")
            if rule:
                found[f"packets {rule}"] = int(figures.strip("[]").split(":")[0])
    return found


def text(path: str, state: str | None) -> str:
    """Return the lines as iptables-save prints them; empty for None."""
    iptables_split(path)
    return state or ""
