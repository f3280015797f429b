"""What a chain of ours gives back when it goes, beside another one of the same table."""

from __future__ import annotations

import builder
import pytest

from remedies.model import Held
from remedies.rules.ours import iptables_chain, iptables_text
from remedies.transaction.built_in import before_ours
from remedies.values import replace

CLAMP, INVALID = "iptables:mangle/REMEDY-MSS", "iptables:mangle/REMEDY-INVALID"
HOOKS = ("FORWARD", "OUTPUT")


def chains(*names: str, variant: str = "nft") -> str:
    return iptables_text(variant, "mangle", tuple(f":{name}" for name in names), ())


def held(base: str | None, resource: str = INVALID) -> dict[str, Held]:
    """Return our other chain as in force, which jumps from both."""
    ours = iptables_chain(resource.partition(":")[2], "nft", HOOKS, ("-j DROP",))
    return {resource: builder.held(resource=resource, base=base, ours=ours)}


@pytest.mark.parametrize(
    ("before", "others", "expected"),
    [
        (None, held(None), None),
        (chains(*HOOKS), {}, chains(*HOOKS)),
        (chains(*HOOKS), held(None), None),
        (chains(*HOOKS, "INPUT"), held(None), chains("INPUT")),
        (chains(*HOOKS), held(chains()), chains()),
        (chains(*HOOKS), held(chains("FORWARD")), chains("FORWARD")),
        (chains(*HOOKS), held(chains(*HOOKS)), chains(*HOOKS)),
        (
            chains(*HOOKS) + chains("INPUT", variant="legacy"),
            held(None),
            chains("INPUT", variant="legacy"),
        ),
        (chains(*HOOKS), held(None, "iptables:raw/REMEDY-NOTRACK"), chains(*HOOKS)),
        (chains(*HOOKS), held(None, "ip6tables:mangle/REMEDY-INVALID"), chains(*HOOKS)),
        (chains(*HOOKS), held(None, CLAMP), chains(*HOOKS)),
    ],
)
def test_what_another_chain_of_ours_caused_to_exist_is_not_given_back(
    before: str | None, others: dict[str, Held], expected: str | None
) -> None:
    change = builder.change(resource=CLAMP, before=before)
    assert before_ours([change], others) == (replace(change, before=expected),)


def test_what_is_in_force_and_other_kinds_are_as_they_are() -> None:
    ours = iptables_chain("mangle/REMEDY-MSS", "nft", HOOKS, ("-j TCPMSS",))
    changes = (
        builder.change(resource=CLAMP, before=ours),
        builder.change(resource="sysctl:net.ipv4.ip_forward", before="0"),
    )
    assert before_ours(changes, held(None)) == changes
