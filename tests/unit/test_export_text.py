"""Exported playbooks are the same whatever a plan says, but for data that is tagged ``!unsafe``."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import builder
import pytest
import yaml

from remedies import codec
from remedies.errors import InputError
from remedies.fleet import export
from remedies.model import Change, Plan
from remedies.rules import ours
from remedies.values import replace

TEXTS = (
    "{{ lookup('pipe', 'id') }}", "{% for x in y %}", "a: b # c", "- e", "&a *b !!c %d @e `f`",
    "'\"\\", "x\ny\n  z\n", "\n\n  - lead", "\x1b[31m\x7f\x85\u2028\u202e", "\U0001f525", "...",
    "".join(map(chr, range(1, 0x20))), "\x1e", "\ufffe\ufeff",
)  # fmt: skip
KEPT = (
    "resource",
    "before",
    "after",
    "effects",
    "name",
    "action",
    "reversibility",
    "risk",
    "backend",
)
"""Addresses, states and closed words; the host's name is one."""


def comment(text: str) -> str:
    """Return a comment as iptables-save prints it."""
    for special in "\\\"'":
        text = text.replace(special, "\\" + special)
    return f'"{text}"'


def is_line(text: str) -> bool:
    return len(f"{text}.".splitlines()) == 1


def changes(text: str) -> list[Change]:
    """Return a change of each kind and direction whose states hold ``text`` wherever they may."""
    chain = ours.NftChain(text or "c", "filter", "input", 0, ((ours.drop(), ours.comment(text)),))
    rule = f"-m comment --comment {comment(text)} -j DROP"
    chains = ours.iptables_chain("mangle/REMEDY-X", "nft", ("INPUT",), (rule,))
    states = {
        "nft:inet/remedy_x": ours.nft_table("inet/remedy_x", (chain,)),
        "file:/etc/remedy/boot/x.conf": f"#{text}",
        "file:/etc/sysctl.d/99-remedy.conf": f"#{text}\n",
        **({"iptables:mangle/REMEDY-X": chains} if is_line(text) else {}),
    }
    made: list[tuple[str, str | None, str | None]] = [
        ("sysctl:net.ipv4.ip_forward", "1", f"0 {text}")
    ]
    made += [(address, None, state) for address, state in states.items()]
    made += [(address, state, None) for address, state in states.items()]
    return [
        builder.change(address, old, new, action="create", effects=("flow:udp/eth0/53",))
        for address, old, new in made
    ]


def poisoned(text: str, count: int) -> Plan:
    """Return a plan in which every text that is no address, state or host name is ``text``."""
    plan = builder.plan(*changes(text)[:count], warnings=("w",))

    def walk(plain: Any, key: str = "") -> Any:
        if isinstance(plain, dict):
            return {name: walk(value, name) for name, value in plain.items()}
        if isinstance(plain, list):
            return [walk(value, key) for value in plain]
        return text if isinstance(plain, str) and key not in KEPT else plain

    return codec.decode(Plan, walk(codec.encode(plan)), "plan")


def skeleton(text: str) -> str:
    """Return a playbook's structure and every text without the tag."""

    class Loader(yaml.CSafeLoader):
        pass

    Loader.add_constructor("!unsafe", lambda _loader, _node: None)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    return json.dumps([comments, yaml.load(text, Loader)], indent=1)


def kept(text: str) -> list[str]:
    """Return every tagged text."""
    found: list[str] = []

    class Loader(yaml.CSafeLoader):
        def tagged(self, node: Any) -> None:
            scalars = node.value if isinstance(node, yaml.SequenceNode) else [node]
            found.extend(scalar.value for scalar in scalars)

    Loader.add_constructor("!unsafe", Loader.tagged)
    yaml.load(text, Loader)
    return found


@cache
def harmless(text: str, count: int) -> dict[str, str]:
    return export.playbooks(poisoned(text, count))


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_of_a_plan_is_outside_the_tagged_data(text: str) -> None:
    count = len(changes(text))
    plain = "plain" if is_line(text) else "a\nb"
    made, other = export.playbooks(poisoned(text, count)), harmless(plain, count)
    for name, book in made.items():
        assert skeleton(book) == skeleton(other[name])
        assert f"#{text}\n" in kept(book)


def test_a_nul_which_no_program_takes_is_refused() -> None:
    with pytest.raises(InputError):
        export.playbooks(poisoned("\0", 3))


@pytest.mark.parametrize("content", ["", "1\n", "null", "true\n", "0x1f", "1:30"])
def test_a_file_that_ansible_would_take_for_something_else_is_refused(content: str) -> None:
    """ansible-core 2.19 resolves a scalar with the tag as if it had no quotes."""
    plan = builder.plan(builder.change("file:/etc/sysctl.d/99-remedy.conf", None, content))
    with pytest.raises(InputError, match="a playbook cannot hold"):
        export.playbooks(plan)


@pytest.mark.parametrize("name", ["all", "ungrouped", "-e", "a:b", "{{x}}", ""])
def test_a_host_name_that_is_a_pattern_is_refused(name: str) -> None:
    scan = builder.scan(host=replace(builder.HOST, name=name))
    plan = builder.plan(*changes("x"), scan=scan)
    with pytest.raises(InputError, match="is not a host name"):
        export.playbooks(plan)


@pytest.mark.parametrize(
    "resource",
    ["nft:inet/{{x}}", "file:/etc/passwd", "sysctl:kernel.x y", "iptables:mangle/X", "flow:x"],
)
def test_what_is_not_ours_to_write_is_refused(resource: str) -> None:
    with pytest.raises(InputError):
        export.playbooks(builder.plan(builder.change(resource, None, "x")))
