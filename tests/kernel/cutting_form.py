"""The command line of a remedy whose invalid-drop is wrong: it cuts every login to the host.

A saved plan is made again before it is applied, so what cuts must be what the fix makes. Run as a
program: its first word is ``all`` (TCP, its own session included) or ``new`` (connections), those
after it are ``remedy``'s.
"""

from __future__ import annotations

import sys

from remedies import cli
from remedies.fixes import invalid_drop
from remedies.namespaces import netns
from remedies.rules import ours

MATCHES = {"all": (), "new": (ours.ct_state("invalid", "new"),)}


def table(what: str) -> str:
    """Return a table that mitigates the fault, and drops too much."""
    rule = (ours.meta("l4proto", "tcp"), *MATCHES[what], ours.counter(), ours.drop())
    chains = (
        ours.NftChain(hook, "filter", hook, invalid_drop.PRIORITY, (rule,))
        for hook in ("input", "forward")
    )
    return ours.nft_table(invalid_drop.TABLE, tuple(chains))


def cut(what: str) -> None:
    """Let this process's remedy have the wrong fix."""
    wrong = table(what)
    invalid_drop.table = lambda: wrong


def on(host: str, what: str = "") -> None:
    """Let this process's remedy run in a namespace; ``what``: with that wrong fix."""
    netns.enter(host)
    if what:
        cut(what)


if __name__ == "__main__":
    cut(sys.argv.pop(1))
    sys.exit(cli.main())
