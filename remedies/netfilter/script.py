"""What ``iptables-restore --noflush`` is fed to write or remove a chain of ours. Pure."""

from __future__ import annotations

from collections.abc import Sequence


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
