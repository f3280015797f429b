"""The state of invalid-drop as earlier versions wrote it: every INVALID segment dropped.

Journals hold it, hosts have it in force, and the harm matrix shows what it ends.
"""

from __future__ import annotations

from remedies.rules import ours

TABLE = "inet/remedy_invalid_drop"
_RULE = (
    ours.meta("l4proto", "tcp"),
    ours.ct_state("invalid"),
    ours.counter(),
    ours.drop(),
    ours.comment("remedy:invalid-drop"),
)
OLDER = ours.nft_table(
    TABLE,
    tuple(ours.NftChain(hook, "filter", hook, -10, (_RULE,)) for hook in ("input", "forward")),
)
OLDER_LINE = (
    '-p tcp -m conntrack --ctstate INVALID -m comment --comment "remedy:invalid-drop" -j DROP'
)
"""The rule of its chain, which INPUT and FORWARD jumped to."""
