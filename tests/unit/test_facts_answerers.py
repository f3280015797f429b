"""Whether clients that got wrong answers were answered right since, by what conntrack has left."""

from __future__ import annotations

import pytest

from remedies.facts import answerers
from remedies.facts.pairs import Proof
from remedies.netlink.conntrack_entry import IPS_ASSURED, IPS_SEEN_REPLY, Entry
from remedies.netlink.flow import Flow, Tuple

ASKED, WRONG, OTHER, WHOLE = "10.21.17.99", "172.17.0.1", "10.21.17.50", 30


def proof(client: str = "172.17.0.2", source: str = WRONG) -> Proof:
    way = Tuple(client, 40000, ASKED, 53)
    back = Tuple(source, 53, client, 40000)
    return Proof(
        Flow("udp", way, way.reversed, seen_reply=False, nat=False),
        Flow("udp", back, back.reversed, seen_reply=False, nat=False),
        source,
    )


def answered(left: int, client: str = "172.17.0.2", status: int = IPS_SEEN_REPLY) -> Entry:
    way = Tuple(client, 40001, ASKED, 53)
    return Entry("udp", way, way.reversed, status, left)


@pytest.mark.parametrize(
    ("since", "flows"),
    [
        pytest.param(True, [answered(21), answered(29)], id="all of it after"),
        pytest.param(False, [], id="nobody"),
        pytest.param(False, [answered(20), answered(29)], id="within the second"),
        pytest.param(False, [answered(15), answered(29)], id="right and wrong by turns"),
        pytest.param(False, [answered(29, "10.21.17.1")], id="a client whose way is right"),
        pytest.param(False, [answered(29, status=IPS_ASSURED)], id="a flow that may be older"),
        pytest.param(False, [answered(120)], id="of a kernel with another time-out"),
    ],
)
def test_only_answers_to_the_same_client_after_its_last_wrong_one_count(
    since: bool, flows: list[Entry]
) -> None:
    assert answerers._since([proof()], {(ASKED, 53): flows}, 20, WHOLE) == since


def test_each_way_of_a_wrong_answer_needs_a_right_one() -> None:
    two = [proof(), proof("10.21.17.1", OTHER)]
    flows = [answered(29)]
    assert not answerers._since(two, {(ASKED, 53): flows}, 20, WHOLE)
    flows.append(answered(29, "10.21.17.1"))
    assert answerers._since(two, {(ASKED, 53): flows}, 20, WHOLE)
    many = [proof(), proof("172.17.0.3")]  # of one way: one of them is enough
    assert answerers._since(many, {(ASKED, 53): [answered(29)]}, 20, WHOLE)
