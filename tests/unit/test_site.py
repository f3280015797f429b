"""Site conditions: what a policy may state, what is refused, and how it is judged and set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builder
import pytest

from remedies import catalogue, site
from remedies.errors import ConfigError, Unreadable
from remedies.facts import Asking, named
from remedies.facts.named import Named
from remedies.model import Terms
from remedies.planning import engine
from remedies.policy.compile import compile_policy
from remedies.policy.show import to_yaml
from remedies.values import replace

HEAD = "apiVersion: remedy/v1\nname: mine\n"
BACKLOG: dict[str, Any] = {
    "title": "The accept queue is too short",
    "fact": "sysctl:net.core.somaxconn",
    "is": "<",
    "value": 8192,
    "set": {"sysctl": "net.core.somaxconn", "value": 8192},
}
MODULE: dict[str, Any] = {
    "title": "br_netfilter is not loaded",
    "fact": "module:br_netfilter",
    "is": "absent",
    "set": {"module": "br_netfilter"},
}
LINK: dict[str, Any] = {
    "title": "bridges lose their address",
    "fact": "file:/etc/systemd/network/10-remedy-site.mac.link",
    "is": "absent",
    "set": {
        "file": "/etc/systemd/network/10-remedy-site.mac.link",
        "content": "[Match]\nDriver=bridge\n",
    },
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give ``write(text, name)``, a policy file in the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(text: str, name: str = "p.yaml") -> None:
        (tmp_path / name).write_text(HEAD + text)
        (tmp_path / name).chmod(0o600)

    return make


def wrong(name: str, entry: dict[str, Any]) -> list[str]:
    return [problem.key for problem in site.problems(name, entry)]


@pytest.mark.parametrize("entry", [BACKLOG, MODULE, LINK])
def test_an_entry_that_is_right(entry: dict[str, Any]) -> None:
    assert wrong("site.mac", entry) == []


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("title", {"title": "two\nlines"}),
        ("title", {"title": "\x1b[31mred"}),
        ("fact", {"fact": "exec:/bin/true"}),
        ("fact", {"fact": "sysctl:net..core"}),
        ("fact", {"fact": "sysctl:net/core/../../kernel/core_pattern"}),
        ("fact", {"fact": "sysctl:net.ipv6.conf.all.stable_secret"}),
        ("fact", {"fact": "sysctl:net.ipv4.tcp_fastopen_key"}),
        ("fact", {"fact": "module:../x", "is": "absent", "value": None}),
        ("fact", {"fact": "file:/etc/../proc/kcore", "is": "contains"}),
        ("fact", {"fact": "file:/root/.ssh/id_ed25519", "is": "contains"}),
        ("fact", {"fact": "file:/etc/a b", "is": "contains"}),
        ("is", {"is": "contains"}),
        ("value", {"value": "many"}),
        ("value", {"is": "==", "value": "a\nb"}),
        ("set", {"set": {"sysctl": "kernel.core_pattern", "value": "|/bin/sh"}}),
        ("set", {"set": {"sysctl": "net.core.somaxconn", "value": "1\nkernel.x = 2"}}),
        ("set", {"set": {"sysctl": "net.core.somaxconn"}}),
        ("set", {"set": {"sysctl": "net.core.somaxconn", "value": 4096}}),
        ("set", {"set": {"sysctl": "net.x.y", "value": 1, "module": "x"}}),
        ("set", {"set": {"module": "x\ny"}}),
        ("set", {"set": {"module": "x", "content": "y"}}),
        ("set", {"set": {"file": "/etc/systemd/system/remedy-site.a.service", "content": "x\n"}}),
        ("set", {"set": {"file": "/etc/systemd/network/10-other.link", "content": "x\n"}}),
        ("set", {"set": {"file": "/etc/systemd/network/10-remedy-site.a.link", "content": "\x00"}}),
        ("mode", {"mode": "fix", "set": None}),
    ],
)
def test_what_a_hostile_or_careless_entry_says_is_refused(key: str, change: dict[str, Any]) -> None:
    entry = {k: v for k, v in {**BACKLOG, **change}.items() if v is not None}
    assert key in wrong("site.a", entry)


@pytest.mark.parametrize(
    "name", ["site.", "site.A", "site.a/b", "site.a\n", "site.-a", "a", "site.a.b"]
)
def test_an_id_is_narrow(name: str) -> None:
    assert wrong(name, MODULE) == ["id"]


@pytest.mark.parametrize(
    ("test", "value", "got", "found"),
    [
        ("<", 8192, "4096", True),
        ("<", 8192, "8192", False),
        (">", 1, "2", True),
        ("==", "1 2", "1  2", True),
        ("!=", "1 2", "1 2", False),
        ("absent", None, None, True),
        ("absent", None, "0", False),
    ],
)
def test_how_a_sysctl_is_compared(test: str, value: object, got: str, found: bool) -> None:
    entry = {"title": "t", "fact": "sysctl:net.a.b", "is": test, "value": value}
    params = {k: v for k, v in entry.items() if v is not None}
    facts = builder.facts(Named({"sysctl:net.a.b": got}))
    assert bool(catalogue.condition("site.a").detect(facts, params)) is found


@pytest.mark.parametrize("got", [None, "1 2", ""])
def test_what_is_no_number_or_no_key_is_unknown(got: str) -> None:
    params = {"title": "t", "fact": "sysctl:net.a.b", "is": "<", "value": 3}
    with pytest.raises(Unreadable):
        catalogue.condition("site.a").detect(builder.facts(Named({"sysctl:net.a.b": got})), params)


def test_a_file_is_asked_for_one_text_and_nothing_else_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "ROOT", str(tmp_path))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/x").write_text("secret\nnameserver 10.0.0.1\n")
    questions = ["/etc/x nameserver 10.", "/etc/x", "/etc/x 11.", "/etc/y", "/etc/y a", "/etc"]
    topics = frozenset(f"{named.TOPIC}file:{question}" for question in questions)
    seen = named.read(Asking(builder.HOST, topics=topics))
    assert [seen.values.get(f"file:{q}") for q in questions] == [
        "yes",
        "there",
        "no",
        None,
        None,
        None,
    ]
    assert list(seen.missing) == ["file:/etc"]
    assert "secret" not in repr(seen)


def test_a_module_that_nothing_tells_of_is_not_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "ROOT", str(tmp_path))
    asking = Asking(
        builder.HOST, topics=frozenset(f"{named.TOPIC}module:{m}" for m in ("a", "b_c"))
    )
    assert set(named.read(asking).missing) == {"module:a", "module:b_c"}
    folder = tmp_path / f"lib/modules/{os.uname().release}"
    folder.mkdir(parents=True)
    (folder / "modules.builtin").write_text("kernel/net/b-c.ko\n")
    assert named.read(asking).values == {"module:a": None, "module:b_c": "built in"}


def test_a_condition_its_fix_and_what_is_ours(write: Callable[..., None]) -> None:
    facts = builder.facts(Named({"sysctl:net.core.somaxconn": "4096"}))
    condition, fix = catalogue.condition("site.a"), catalogue.fix("site.a")
    (finding,) = condition.detect(facts, BACKLOG)
    assert (finding.verdict, finding.subject) == ("exposed", "sysctl:net.core.somaxconn")
    assert fix.guard(finding, facts, Terms()) is None
    now, later = fix.desired(finding, facts, Terms(persist=True))  # type: ignore[misc]
    assert (now.resource, now.state) == ("sysctl:net.core.somaxconn", "8192")
    assert later.resource == "file:/etc/sysctl.d/99-zz-remedy-site.a.conf"
    assert (later.state or "").endswith("\n-net.core.somaxconn = 8192\n")
    assert all(catalogue.may_write("site.a", w.resource) for w in (now, later))
    assert not catalogue.may_write("site.a", "file:/etc/sysctl.d/99-zz-remedy-tcp-be-liberal.conf")
    done = builder.facts(Named({"sysctl:net.core.somaxconn": "8192"}), ours=(now.resource,))
    (finding,) = condition.detect(done, BACKLOG)
    assert (finding.verdict, finding.mitigated_by) == ("mitigated", f"remedy {now.resource}")


def test_a_module_comes_at_the_next_boot_and_only_on_the_host() -> None:
    absent = builder.facts(Named({"module:br_netfilter": None}))
    condition, fix = catalogue.condition("site.a"), catalogue.fix("site.a")
    (finding,) = condition.detect(absent, MODULE)
    (wanted,) = fix.desired(finding, absent, Terms())  # type: ignore[misc]
    assert wanted.resource == "file:/etc/modules-load.d/remedy-site.a.conf"
    assert wanted.boot
    assert (wanted.state or "").splitlines()[1:] == ["br_netfilter"]
    assert "modprobe br_netfilter" in fix.impact(finding, absent, Terms())
    other = builder.facts(absent.get(Named), host=replace(builder.HOST, netns="x"))
    assert fix.guard(finding, other, Terms()) is not None
    ours = builder.facts(absent.get(Named), ours=(wanted.resource,))
    (finding,) = condition.detect(ours, MODULE)
    assert finding.verdict == "mitigated"


SITE = """\
extends: default
site:
  - id: site.a
    title: The accept queue is too short
    fact: sysctl:net.core.somaxconn
    is: "<"
    value: 8192
    mode: fix
    set: {sysctl: net.core.somaxconn, value: 8192}
"""


def test_a_policy_states_it_and_a_later_one_replaces_and_waives_it(
    write: Callable[..., None],
) -> None:
    write(SITE)
    policy = compile_policy(("p.yaml",)).policy
    rule = policy.rules["site.a"]
    assert (rule.mode, rule.fixes, rule.accept_harm) == ("fix", ("site.a",), ("site.a",))
    assert policy.origins["rules.site.a.mode"] == "p.yaml:5"
    assert "site.a" in engine.watched(policy)
    assert engine.topics_of_scan(policy) == {"named:sysctl:net.core.somaxconn"}
    write(to_yaml(policy).partition("name: mine\n")[2], "shown.yaml")
    assert compile_policy(("shown.yaml",)).policy.rules == policy.rules
    write(
        "extends: ./p.yaml\nsite:\n"
        "  - {id: site.a, title: t, fact: 'module:x', is: absent, mode: off}\n"
        "waivers:\n  - {condition: site.a, subject: '*', until: 2027-01-01, reason: r, owner: o}\n",
        "later.yaml",
    )
    later = compile_policy(("later.yaml",)).policy
    assert later.rules["site.a"].mode == "off"
    assert later.rules["site.a"].fixes == ()
    assert engine.topics_of_scan(later) == frozenset()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("site:\n  - {id: udp-x, title: t, fact: 'module:x', is: absent}\n", "site.0.id"),
        ("rules:\n  site.b: {mode: fix}\n", "rules.site.b"),
        ("waivers:\n"
         "  - {condition: site.b, subject: s, until: 2027-01-01, reason: r, owner: o}\n",
         "waivers.0.condition"),
        (SITE.replace("net.core.somaxconn", "net.netfilter.nf_conntrack_tcp_be_liberal"),
         "site.0.set"),
        (SITE + SITE.partition("site:\n")[2].replace("site.a", "site.b").replace("8192", "9000"),
         "site.1.set"),
        (SITE + "    if: 1\n", "site.0.if"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_told_with_its_place(
    write: Callable[..., None], text: str, place: str
) -> None:
    write(text)
    with pytest.raises(ConfigError) as caught:
        compile_policy(("p.yaml",))
    assert f": {place}: " in str(caught.value)
