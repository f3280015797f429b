"""Our chain as iptables-nft prints it, without letting it read what others have in the table.

The program reads whole chains and begins again whenever the ruleset has changed meanwhile
(iptables/nft-cache.c, __nft_build_cache()): beside 50,000 rules that takes half a second, and
while somebody writes ten times a second it never ends. So the kernel's own messages of our rules
and of the jumps to them are put into the same table of an empty namespace, and printed there.
"""

from __future__ import annotations

from remedies.namespaces import netns
from remedies.resources import nf_tables
from remedies.resources.program import run


def saved(program: str, family: str, table: str, chain: str, *options: str) -> str:
    """Return what ``iptables-nft-save`` prints of our chain and the jumps to it.

    Empty where there is no such chain. Raises Unreadable.
    """
    found = nf_tables.own_rules(family, table, chain)
    if found is None:
        return ""
    save = [f"{program}-nft-save", *options, "-t", table]
    with netns.scratch():
        if nf_tables.copy(family, table, chain, found):
            return run(save)
    return run(save)  # the kernel did not take them as they are: a set, a map
