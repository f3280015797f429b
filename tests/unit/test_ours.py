"""The canonical states of what we own."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.errors import InputError
from remedies.rules import ours
from remedies.rules.nft_syntax import nft_text, priority

RULE = '-p tcp -m conntrack --ctstate INVALID -m comment --comment "remedy:x" -j DROP'


def table() -> str:
    rule = (
        ours.meta("l4proto", "tcp"),
        ours.ct_state("invalid"),
        ours.counter(),
        ours.drop(),
        ours.comment("remedy:x"),
    )
    return ours.nft_table(
        "inet/remedy_x",
        (
            ours.NftChain("input", "filter", "input", -10, (rule,)),
            ours.NftChain("forward", "filter", "forward", -10, (rule,)),
        ),
    )


def test_a_table_is_one_object_a_line_table_chains_rules() -> None:
    kinds = [next(iter(json.loads(line))) for line in table().splitlines()]
    assert kinds == ["table", "chain", "chain", "rule", "rule"]


def test_a_comment_stands_beside_the_expressions() -> None:
    rule = json.loads(table().splitlines()[-1])["rule"]
    assert rule["comment"] == "remedy:x"
    assert [next(iter(part)) for part in rule["expr"]] == ["match", "match", "counter", "drop"]


def test_what_libnftables_lists_becomes_what_was_built() -> None:
    listed: list[dict[str, object]] = [{"metainfo": {"version": "1.0.6"}}]
    chains_and_rules = [json.loads(line) for line in table().splitlines()]
    # newer versions list each chain's rules right behind it
    order = [0, 1, 3, 2, 4]
    for handle, index in enumerate(order, 1):
        ((kind, body),) = chains_and_rules[index].items()
        body = dict(reversed([*body.items(), ("handle", handle)]))
        if "expr" in body:
            body["expr"] = [
                {"counter": {"packets": 7, "bytes": 9}} if "counter" in part else part
                for part in body["expr"]
            ]
        listed.append({kind: body})
    assert ours.nft_canonical(listed) == table()


def test_rules_stand_in_the_order_of_their_chains_and_name_the_counters_of_others() -> None:
    def rule(chain: str, counter: object) -> dict[str, object]:
        return {"rule": {"chain": chain, "expr": [{"counter": counter}]}}

    chains: list[dict[str, object]] = [{"chain": {"name": name}} for name in ("z", "a")]
    listed = [*chains, rule("a", "theirs"), rule("z", {"packets": 7})]
    assert ours.nft_canonical(listed) == "".join(
        json.dumps(item, sort_keys=True) + "\n"
        for item in (*chains, rule("z", None), rule("a", "theirs"))
    )


def test_rules_of_one_chain_keep_their_order() -> None:
    rules = tuple((ours.payload("udp", "dport", port), ours.notrack()) for port in (3, 1, 2))
    text = ours.nft_table("ip/remedy_x", (ours.NftChain("a", "filter", "output", -300, rules),))
    found = [json.loads(line)["rule"] for line in text.splitlines() if '"rule"' in line]
    assert [rule["expr"][0]["match"]["right"] for rule in found] == [3, 1, 2]


@pytest.mark.parametrize(
    "path",
    [
        "inet/filter",
        "arp/remedy_x",
        "inet/remedy_x; flush ruleset",
        "remedy_x",
        "inet/",
        "inet/remedy_",
        "inet/remedy_\xe9",
    ],
)
def test_no_other_table_is_ours(path: str) -> None:
    with pytest.raises(InputError, match="not a table of remedy"):
        ours.nft_table(path, ())


@pytest.mark.parametrize(
    "path",
    [
        "mangle/INPUT",
        "mangle/DOCKER-USER",
        "broute/REMEDY-X",
        "mangle/REMEDY-",
        "mangle/REMEDY-X Y",
        "mangle/REMEDY-\n",
        "mangle/REMEDY-\xc9",
        f"mangle/REMEDY-{'X' * 22}",
    ],
)
def test_no_other_chain_is_ours(path: str) -> None:
    with pytest.raises(InputError, match="not a chain of remedy"):
        ours.iptables_split(path)


def test_a_chain_of_ours_may_be_as_long_as_the_kernel_takes() -> None:
    longest = f"REMEDY-{'X' * 21}"
    assert ours.iptables_split(f"raw/{longest}") == ("raw", longest)


def test_an_iptables_chain_reads_as_iptables_save_prints_it() -> None:
    text = ours.iptables_chain("mangle/REMEDY-X", "nft", ("INPUT", "FORWARD"), (RULE,))
    assert text == (
        "# iptables-nft\n*mangle\n:FORWARD\n:INPUT\n:REMEDY-X -\n"
        "-A FORWARD -j REMEDY-X\n-A INPUT -j REMEDY-X\n"
        f"-A REMEDY-X {RULE}\nCOMMIT\n"
    )


@given(st.permutations(["INPUT", "FORWARD", "PREROUTING"]), st.sampled_from(ours.VARIANTS))
def test_the_order_of_hooks_is_no_part_of_the_state(hooks: list[str], variant: str) -> None:
    one = ours.iptables_chain("raw/REMEDY-X", variant, tuple(hooks), (RULE,))
    other = ours.iptables_chain("raw/REMEDY-X", variant, tuple(sorted(hooks)), (RULE,))
    assert one == other
    sections = ours.iptables_sections(one)
    assert list(sections) == [variant]
    assert f"-A REMEDY-X {RULE}" in sections[variant]


@pytest.mark.parametrize("state", ["x", "# iptables-nft\n", "*mangle\nCOMMIT\n", "# x\n*m\nCOMMIT"])
def test_a_broken_state_is_refused(state: str) -> None:
    with pytest.raises(InputError, match="not the state"):
        ours.iptables_sections(state)


@pytest.mark.parametrize(
    ("value", "hook", "text"),
    [
        (-10, "input", "filter - 10"),
        (0, "input", "filter"),
        (-300, "prerouting", "raw"),
        (-105, "prerouting", "dstnat - 5"),
        (-105, "output", "-105"),
        (11, "input", "11"),
        (-145, "input", "mangle + 5"),
    ],
)
def test_priorities_have_names(value: int, hook: str, text: str) -> None:
    assert priority(value, hook) == text


def test_what_is_not_ours_in_our_table_is_shown_too() -> None:
    foreign = '{"set": {"family": "inet", "name": "s", "table": "remedy_x", "type": "mark"}}\n'
    assert f"# {foreign.strip()}" in nft_text(table() + foreign)


def test_absent_is_empty() -> None:
    assert nft_text(None) == ""


def test_a_name_or_comment_never_looks_like_a_line_of_its_own() -> None:
    text = "x\n\t\taccept\u2028"
    chain = ours.NftChain(text, "filter", "input", 0, ((ours.drop(), ours.comment(text)),))
    shown = nft_text(ours.nft_table("inet/remedy_x", (chain,)))
    assert "accept" not in [line.strip() for line in shown.split("\n")]
    assert len(shown.splitlines()) == len(shown.split("\n")) - 1 == 6
