"""Whatever a file, a message or a text holds, it is a value or one clear error, and soon.

Random bytes, cut and changed good values, and good values in which one part is another: for
every format of :mod:`fuzz_formats`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from fuzz_formats import FORMATS, KERNEL, outcome
from fuzz_samples import POLICY, compiled, facts, journal, plan, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from remedies.netlink.socket import attribute, nested
from remedies.transaction.record import GENESIS, digest

SEEDS = seeds()
quick = settings(max_examples=30, deadline=30_000)  # "soon", on the busiest machine
"""The same examples each time: they keep what was found found. New ones are the fuzzer's."""


def test_every_format_has_a_good_value_to_begin_from() -> None:
    assert set(SEEDS) == set(FORMATS)
    for name, values in SEEDS.items():
        for value in values:
            assert outcome(name, value) == "value", name


@pytest.mark.parametrize("name", FORMATS)
@quick
@given(data=st.binary(max_size=400))
def test_bytes(name: str, data: bytes) -> None:
    outcome(name, data)


@st.composite
def _mutated(draw: st.DrawFn, value: bytes) -> bytes:
    """Return ``value`` with a few bytes changed, taken out or put in."""
    made = bytearray(value)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(made) - 1)))
        how = draw(st.sampled_from(("set", "cut", "insert", "end")))
        if how == "set":
            made[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == "cut":
            del made[at : at + draw(st.integers(1, 8))]
        elif how == "insert":
            made[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del made[at:]
    return bytes(made)


@pytest.mark.parametrize("name", FORMATS)
@quick
@given(draw=st.data())
def test_a_good_value_with_some_bytes_changed(name: str, draw: st.DataObject) -> None:
    outcome(name, draw.draw(_mutated(draw.draw(st.sampled_from(SEEDS[name])))))


def _attributes() -> st.SearchStrategy[bytes]:
    numbers = st.integers(0, 30)
    leaves = st.one_of(
        st.binary(max_size=20),
        st.integers(0, 20).map(lambda n: n.to_bytes(4, "big")),
        st.sampled_from((b"meta\0", b"cmp\0", b"payload\0", b"bitwise\0", b"lookup\0", b"nat\0",
                         b"immediate\0", b"range\0", b"match\0", b"target\0", b"fib\0", b"redir\0",
                         b"tcp\0", b"conntrack\0", b"DNAT\0", b"multiport\0", b"ct\0")),
    )  # fmt: skip
    return st.recursive(
        st.builds(attribute, numbers, leaves),
        lambda inner: st.builds(
            lambda number, parts: nested(number, *parts), numbers, st.lists(inner, max_size=5)
        ),
        max_leaves=25,
    )


@pytest.mark.parametrize("name", sorted(KERNEL))
@quick
@given(parts=st.lists(_attributes(), max_size=6), head=st.sampled_from((0, 4, 8, 12, 16, 72)))
def test_attributes_of_any_shape(name: str, parts: list[bytes], head: int) -> None:
    outcome(name, bytes(head) + b"".join(parts))


@st.composite
def _rules(draw: st.DrawFn) -> bytes:
    """Return a rule of known expressions with small, often wrong, arguments."""
    names = ("meta", "cmp", "payload", "bitwise", "lookup", "nat", "immediate", "range", "fib",
             "ct", "redir", "masq", "exthdr", "match", "target", "notrack", "reject")  # fmt: skip
    word = st.integers(0, 24).map(lambda n: n.to_bytes(4, "big"))
    value = st.binary(max_size=17).map(lambda b: attribute(1, b))
    verdict = st.integers(-6, 6).map(
        lambda n: nested(2, attribute(1, n.to_bytes(4, "big", signed=True)))
    )
    xt = st.sampled_from((b"tcp\0", b"conntrack\0", b"multiport\0", b"iprange\0", b"DNAT\0"))
    content = st.one_of(word, value, verdict, xt, st.binary(max_size=170))
    expressions = []
    for _ in range(draw(st.integers(1, 6))):
        got = draw(st.dictionaries(st.integers(1, 6), st.one_of(word, content), max_size=6))
        parts = [attribute(key, part) for key, part in got.items()]
        name = draw(st.sampled_from(names)).encode() + b"\0"
        expressions.append(nested(1, attribute(1, name), nested(2, *parts)))
    return b"\2\0\0\0" + nested(4, *expressions)


@settings(quick, max_examples=150)
@given(rule=_rules())
def test_rules_of_known_expressions(rule: bytes) -> None:
    outcome("nft_rule", rule)


JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(("", "0", "-1", "::1", "192.0.2.1", "[]", "\x1b[2J\u202e", "\ud800", "x" * 5000,
                     "../../etc/shadow", "file:/etc/shadow", "iptables:raw/REMEDY-X", "=cmd|x")),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return container and key of everything within a JSON value."""
    found: list[tuple[Any, Any]] = []
    pairs = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    for key, inner in pairs:
        found.append((value, key))
        found += _places(inner)
    return found


@st.composite
def _changed(draw: st.DrawFn, make: Callable[[], Any]) -> Any:
    """Return a good value in which one or two parts are another, missing or new."""
    value = copy.deepcopy(make())
    for _ in range(draw(st.integers(1, 2))):
        places = _places(value)
        if not places:
            break
        container, key = places[draw(st.integers(0, len(places) - 1))]
        how = draw(st.sampled_from(("other", "other", "other", "gone", "new", "twice")))
        if how == "gone":
            del container[key]
        elif how == "new" and isinstance(container, dict):
            container[draw(st.text(max_size=5))] = draw(JUNK)
        elif how == "twice" and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = draw(JUNK)
    return value


def _signed(value: Any) -> bytes:
    """Return a plan with the id that its content has: as its forger would make it."""
    data = json.dumps(value).encode()
    moved = re.search(r"content ([0-9a-f]+)", outcome("plan", data))
    if moved is not None:
        value["plan_id"] = moved.group(1)
    return json.dumps(value).encode()


@settings(quick, max_examples=100)
@given(value=_changed(plan))
def test_plans(value: Any) -> None:
    outcome("plan", _signed(value))


@settings(quick, max_examples=100)
@given(value=_changed(facts))
def test_facts(value: Any) -> None:
    outcome("facts", json.dumps(value).encode())


@settings(quick, max_examples=80)
@given(value=_changed(compiled))
def test_compiled_policies(value: Any) -> None:
    outcome("policy_compiled", json.dumps(value).encode())


@settings(quick, max_examples=80)
@given(value=_changed(lambda: POLICY))
def test_policies(value: Any) -> None:
    outcome("policy_yaml", json.dumps(value).encode())


@settings(quick, max_examples=80)
@given(records=_changed(journal))
def test_journals_with_good_hashes(records: list[Any]) -> None:
    previous, lines = GENESIS, []
    for number, record in enumerate(records, 1):
        if isinstance(record, dict):
            record.update(prev=previous, seq=number)
            previous = record["hash"] = digest(record)
        lines.append(json.dumps(record) + "\n")
    data = "".join(lines).encode()
    outcome("journal_file", data)
    outcome("journal_segments", data)


@settings(quick, max_examples=80)
@given(lines=st.lists(st.builds(lambda t: t, _changed(
    lambda: [json.loads(line) for line in SEEDS["nft_state"][0].splitlines()]))))  # fmt: skip
def test_nft_states(lines: list[Any]) -> None:
    for value in lines:
        outcome("nft_state", "\n".join(map(json.dumps, value)).encode())


@settings(quick, max_examples=80)
@given(
    lines=st.lists(
        st.one_of(
            st.sampled_from(SEEDS["iptables_state"][0].decode().splitlines()),
            st.text(max_size=30),
        )
    )
)
def test_iptables_states(lines: list[str]) -> None:
    for name in ("iptables_state", "iptables_undo", "iptables_boot"):
        outcome(name, ("\n".join(lines) + "\n").encode())


@pytest.mark.parametrize("name", ["plan", "facts", "policy_compiled", "journal_file", "lock_card"])
@pytest.mark.parametrize(
    "data",
    [b"[" * 200_000, b'{"a":' * 100_000, b"9" * 100_000, b'{"a":1e999}', b"\xff\xfe" * 999,
     b'"' + b"\\ud800" * 1000 + b'"', b"\0" * 10_000, b"-Infinity", b'{"kind":"plan"}'],
    ids=("deep-lists", "deep-objects", "digits", "infinite", "utf-16", "surrogates", "zeros",
         "no-number", "bare"),
)  # fmt: skip
def test_json_that_is_meant_to_hurt(name: str, data: bytes) -> None:
    assert outcome(name, data + b"\n") != "value" or name in ("journal_file", "lock_card")


@pytest.mark.parametrize(
    "data",
    [b"a: &a [x, x]\n" + b"".join(b"b%d: &b%d [*a, *a]\n" % (n, n) for n in range(30)),
     b"[" * 20_000, b"? " * 5_000, b"a: !!python/object/apply:os.system [id]\n", b"%" * 9_999,
     b"- " * 10_000, b"{" * 10_000, b"a: |\n" + b" x\n" * 200_000, b"\t",
     b"\xef\xbb\xbf", b"--- " * 9],
    ids=("bomb", "deep", "keys", "object", "directives", "dashes", "braces", "large", "tab", "mark",
         "documents"),
)  # fmt: skip
def test_yaml_that_is_meant_to_hurt(data: bytes) -> None:
    assert outcome("policy_yaml", data) != "value" or data == b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "data",
    [b"[" * 20_000, b"json = yes\n", b"[remedy]\njson = %(json)s\n", b"[remedy]\n = x\n",
     b"[remedy]\npolicy = a\n[remedy]\n", b"[remedy]\n" + b"x\n" * 20_000, b"\xff\xfe[\0r\0",
     b"[DEFAULT]\njson = yes\n[remedy]\n", b"[remedy]\nstate-dir : /x\n"],
    ids=("brackets", "no-section", "interpolation", "no-key", "twice", "no-value", "utf-16",
         "default", "colon"),
)  # fmt: skip
def test_settings_that_are_meant_to_hurt(data: bytes) -> None:
    assert outcome("configuration", data) != "value"
