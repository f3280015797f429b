"""YAML into plain values: every line kept, nothing executed, nothing expanded without limit."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remedies.policy import sources
from remedies.policy.document import Document, Problems, parse
from remedies.policy.sources import SourcePlace

PLACE = SourcePlace("/etc/remedy/p.yaml", "p.yaml", False)


def read(text: str | bytes) -> Document:
    data = text.encode() if isinstance(text, str) else text
    return parse(PLACE, data, sources.digest(data))


def refusal(text: str | bytes) -> str:
    with pytest.raises(Problems) as caught:
        read(text)
    (problem,) = caught.value.problems
    message = str(problem.error())
    assert "\n" not in message
    assert message.isprintable()
    return message


def test_every_value_knows_its_line() -> None:
    document = read("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n")
    assert document.data == {"a": 1, "b": ["x", {"c": 2, "d": 3}]}
    assert [document.line(p) for p in [("a",), ("b",), ("b", 0), ("b", 1), ("b", 1, "d")]] == [
        1, 2, 3, 4, 5,
    ]  # fmt: skip
    assert document.line(("b", 1, "not there")) == 4


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("false", False),
        ("22:22", "22:22"),
        ("0123", "0123"),
        ("0", 0),
        ("-5", -5),
        ("0.8", 0.8),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("~", None),
        ("", None),
        ("2027-03-31", datetime.date(2027, 3, 31)),
        ("'2027-03-31'", "2027-03-31"),
        ("=", "="),
        ("<<", "<<"),
        ("99999999999999999999", "99999999999999999999"),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    assert read(f"key: {text}\n").data == {"key": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml:1: is empty; "),
        ("# nothing\n", "p.yaml:1: is empty; "),
        ("- a\n", "p.yaml:1: is not a mapping"),
        ("a: 1\nb: [1\nc: 2\n", "p.yaml:3: broken YAML at column 2: "),
        ("a: 'x\n", "p.yaml:2: broken YAML at column 1: "),
        ("a: 1\n\tb: 2\n", "p.yaml:2: broken YAML at column 1: "),
        ("a: 1\n---\nb: 2\n", "p.yaml:2: broken YAML at column 1: "),
        ("a: 1\nb: 2\na: 3\n", "p.yaml:3: a: the key is there twice, first in line 1; remove one"),
        ("a: &x [1]\nb: *x\n", "p.yaml:2: the alias *x is not allowed; write the value out"),
        ("a: !!python/object/apply:os.system ['id']\n", "p.yaml:1: a: unknown tag "),
        ("a: !secret x\n", "p.yaml:1: a: unknown tag '!secret'; remove the tag"),
        ("a: !!binary aGk=\n", "p.yaml:1: a: unknown tag "),
        ("a: !!set {x}\n", "p.yaml:1: a: unknown tag "),
        ("a: !!bool maybe\n", "p.yaml:1: a: 'maybe' is not a valid bool"),
        ("a: 2027-13-45\n", "p.yaml:1: a: '2027-13-45' is not a valid timestamp; dates are"),
        ("a: !!int '" + "9" * 5000 + "'\n", "p.yaml:1: a: '9999"),
        ("? [a]\n: 1\n", "p.yaml:1: : a key must be text; quote it"),
        (b"a: 1\nb: \xff\n", "p.yaml:2: not UTF-8 text; save the file as UTF-8"),
        ("a: 1\nb: \x1b[31m\n", "p.yaml:2: broken YAML: the character '\\x1b' is not allowed"),
        ("a: " + "[" * 5000, "p.yaml:1: nested deeper than 16 levels; simplify it"),
        ("".join(" " * i + f"k{i}:\n" for i in range(40)), "p.yaml:16: nested deeper than 16"),
        ('"\\e[31m": 1\n"\\e[31m": 2\n', "p.yaml:2: \\x1b[31m: the key is there twice"),
    ],
)
def test_what_no_policy_may_contain(text: str | bytes, message: str) -> None:
    assert refusal(text).startswith(message)


def test_a_billion_laughs_are_refused_at_the_first_alias() -> None:
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert refusal("\n".join(lines)).startswith("p.yaml:2: the alias *a0 is not allowed")


@pytest.mark.parametrize(
    "text", ["a:\n" + "- x\n" * 250_000, "a: [" + "1," * 500_000 + "]", "- " * 500_000]
)
def test_the_longest_file_is_refused(text: str) -> None:
    assert "; " in refusal(text)


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.text("abc:-[]{}&*!'\"|>%@ \n\t#,?0", max_size=120).map(str.encode),
    )
)
def test_no_bytes_get_past_a_document_or_one_line_of_refusal(data: bytes) -> None:
    try:
        document = read(data)
    except Problems as caught:
        message = str(caught.problems[0].error())
        assert message.startswith("p.yaml:")
        assert message.isprintable()
    else:
        assert isinstance(document.data, dict)
