"""One chain of ours and the jumps to it, in the nf_tables and the legacy store of iptables.

``iptables`` and ``ip6tables`` are this module for one family each. The two stores are separate
rulesets (iptables-legacy(8), xtables-nft(8)): our chain is looked for in both, and the legacy
tools never run where the legacy store does not hold the table, because running them registers
it. Canonical texts are those of :mod:`remedies.netfilter.ours`; what they mean when written:

* a section with our chain: the chain holds these rules and each built-in chain named jumps to it
  once (a jump's position is not part of the state);
* no section with our chain in a store: chain and jumps are gone from that store;
* of the built-in chains that our jumps alone caused to exist in the nf_tables store, those that
  the text names stay; None says that the table was not there, and goes when nothing is left.
"""

from __future__ import annotations

from remedies.errors import InputError, Unreadable, WriteFailed
from remedies.netfilter.ours import iptables_sections, iptables_split, iptables_text
from remedies.resources import nf_tables
from remedies.resources.program import run
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


IPV4 = Family(4, "iptables", "ip", "/proc/thread-self/net/ip_tables_names")
IPV6 = Family(6, "ip6tables", "ip6", "/proc/thread-self/net/ip6_tables_names")


def read(family: Family, path: str) -> str | None:
    """Return the canonical text of our chain, None where neither chain nor nf_tables table is.

    Raises Unreadable, and InputError for a chain that is not ours.
    """
    table, chain = iptables_split(path)
    found = nf_tables.chains(family.nft, table)
    text = ""
    if found is not None and any(one.name == chain for one in found):
        text += _in_force(family, "nft", table, chain)
    if legacy_loaded(family, table):
        text += _in_force(family, "legacy", table, chain)
    if text or found is None:
        return text or None
    bases = tuple(f":{name}" for name in sorted(one.name for one in found if one.hook is not None))
    return iptables_text("nft", table, bases, ())


def legacy_loaded(family: Family, table: str) -> bool:
    """Tell whether this namespace has the legacy table; raise Unreadable."""
    try:
        with open(family.loaded, encoding="ascii") as names:
            return table in names.read().split()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unreadable(f"{family.loaded}: {error.strerror}", "run as root") from error


def _in_force(family: Family, variant: str, table: str, chain: str) -> str:
    """Return the section of our chain in one store, empty where the chain is not there."""
    saved = run([f"{family.program}-{variant}-save", "-t", table]).splitlines()
    if not any(line.startswith(f":{chain} ") for line in saved):
        return ""
    rules = tuple(line for line in saved if line.startswith(f"-A {chain} "))
    jumps = tuple(sorted(jumps_in(saved, chain)))
    hooks = dict.fromkeys(f":{line.split()[1]}" for line in jumps)
    return iptables_text(variant, table, (*hooks, f":{chain} -"), (*jumps, *rules))


def jumps_in(lines: list[str], chain: str) -> list[str]:
    """Return the lines of iptables-save that send packets to ``chain``."""
    own = f"-A {chain} "
    ways = (f" -j {chain}", f" -g {chain}")
    return [line for line in lines if line.endswith(ways) and not line.startswith(own)]


def write(family: Family, path: str, state: str | None) -> None:
    """Make it so in both stores; raise WriteFailed or InputError."""
    table, chain = iptables_split(path)
    sections = _checked(table, chain, state)
    wanted = {name: lines for name, lines in sections.items() if f":{chain} -" in lines}
    try:
        for variant, lines in wanted.items():
            _put(family, variant, table, chain, lines)
        if "nft" not in wanted:
            nf_tables.remove_chain(family.nft, table, chain, _bases(state, sections))
        if "legacy" not in wanted and legacy_loaded(family, table):
            from remedies.resources import iptables_legacy

            iptables_legacy.write(family.version, table, chain, None)
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error


def _checked(table: str, chain: str, state: str | None) -> dict[str, tuple[str, ...]]:
    """Return the sections of a state; raise InputError where a line is not about our chain."""
    for line in (state or "").splitlines():
        ours = line.startswith((f"-A {chain} ", "# iptables-")) or line in (
            f"*{table}",
            f":{chain} -",
            "COMMIT",
        )
        base = line[:1] == ":" and line[1:].isalnum()
        if not (ours or base or jumps_in([line], chain)):
            raise InputError(f"a state of {table}/{chain} holds the line {line[:80]!r}")
    return iptables_sections(state)


def _bases(state: str | None, sections: dict[str, tuple[str, ...]]) -> frozenset[str] | None:
    """Return the built-in chains to leave in the nf_tables store; None: not even the table."""
    if state is None:
        return None
    return frozenset(line[1:] for line in sections.get("nft", ()) if line.startswith(":"))


def _put(family: Family, variant: str, table: str, chain: str, lines: tuple[str, ...]) -> None:
    rules = tuple(line for line in lines if line.startswith(f"-A {chain} "))
    jumps = tuple(jumps_in(list(lines), chain))
    if variant == "legacy":
        from remedies.resources import iptables_legacy

        iptables_legacy.write(family.version, table, chain, (jumps, rules))
        return
    current: list[str] = []
    if nf_tables.chain_exists(family.nft, table, chain):
        current = run([f"{family.program}-nft-save", "-t", table]).splitlines()
    text = restore_text(table, chain, jumps, rules, jumps_in(current, chain))
    run_restore(family, "nft", text, "--wait")


def restore_text(
    table: str,
    chain: str,
    jumps: tuple[str, ...],
    rules: tuple[str, ...],
    there: list[str],
) -> str:
    """Return what replaces our chain in one transaction of ``iptables-restore --noflush``.

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


def run_restore(family: Family, variant: str, text: str, *options: str) -> None:
    """Feed ``text`` to the restore program of one store; raise WriteFailed with its words."""
    try:
        run([f"{family.program}-{variant}-restore", "--noflush", *options], text)
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error


def check(family: Family, path: str, state: str | None) -> None:
    """Let the restore programs judge ``state`` without committing; raise WriteFailed.

    In an empty namespace, because even a test run of the legacy program registers the table.
    """
    table, chain = iptables_split(path)
    for variant, lines in _checked(table, chain, state).items():
        if f":{chain} -" not in lines:
            continue
        from remedies import netns

        rules = tuple(line for line in lines if line.startswith(f"-A {chain} "))
        text = restore_text(table, chain, tuple(jumps_in(list(lines), chain)), rules, [])
        with netns.scratch():
            run_restore(family, variant, text, "--test")


def same(family: Family, path: str, one: str | None, other: str | None) -> bool:
    """Tell whether two texts say the same of our chain.

    Which built-in chains exist beside it is somebody else's state. Texts that differ are
    compared as this iptables prints them after loading both in an empty namespace.
    """
    _, chain = iptables_split(path)
    first, second = (_force_of(chain, state) for state in (one, other))
    if first == second:
        return True
    if first.keys() != second.keys():
        return False
    return _printed(family, path, one) == _printed(family, path, other)


def _force_of(chain: str, state: str | None) -> dict[str, tuple[str, ...]]:
    """Return the sections that hold our chain."""
    sections = iptables_sections(state)
    return {name: lines for name, lines in sections.items() if f":{chain} -" in lines}


def _printed(family: Family, path: str, state: str | None) -> str | None:
    from remedies import netns

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
    for variant in iptables_sections(read(family, path)):
        lines = run([f"{family.program}-{variant}-save", "-c", "-t", table]).splitlines()
        for line in lines:
            figures, _, rule = line.partition(f" -A {chain} ")
            if rule:
                found[f"packets {rule}"] = int(figures.strip("[]").split(":")[0])
    return found


def text(path: str, state: str | None) -> str:
    """Return the lines as iptables-save prints them; empty for None."""
    iptables_split(path)
    return state or ""
