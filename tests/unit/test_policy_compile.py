"""Policies compiled: what they say together, and what is said about the ones that are wrong."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from remedies.errors import ConfigError
from remedies.model import Unattended
from remedies.policy.compile import BUILT_IN, compile_all, compile_policy
from remedies.policy.document import Problems
from remedies.policy.show import to_yaml

Write = Callable[..., str]

HEAD = "apiVersion: remedy/v1\nname: mine\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Give ``write(text, name) -> name``, a policy file in the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(text: str, name: str = "p.yaml", head: str = HEAD) -> str:
        (tmp_path / name).write_text(head + textwrap.dedent(text))
        (tmp_path / name).chmod(0o600)
        return name

    return make


def problems(*specs: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        compile_all(specs)
    return [str(problem.error()) for problem in caught.value.problems]


def test_the_whole_language(write: Write) -> None:
    write(
        """\
        extends: default
        backend: iptables
        persist: true
        rules:
          tcp-invalid-reset:
            from: active
            fixes: {all: [tcp-be-liberal, invalid-drop]}
            accept_harm: [invalid-drop]
          udp-reply-source: {mode: off}
        require:
          - fix: notrack
            params: {protocol: udp, ports: [5060], addresses: [192.0.2.10]}
            reason: SIP without NAT on this path
        waivers:
          - condition: udp-reply-source
            subject: "udp *:514"
            until: 2027-03-31
            reason: syslog never answers
            owner: netops
        """
    )
    policy = compile_policy(("p.yaml",)).policy
    assert policy.names == ("mine",)
    assert (policy.backend, policy.persist) == ("iptables", True)
    rule = policy.rules["tcp-invalid-reset"]
    assert (rule.mode, rule.from_, rule.fixes, rule.every) == (
        "fix", "active", ("tcp-be-liberal", "invalid-drop"), True,
    )  # fmt: skip
    assert rule.accept_harm == ("invalid-drop",)
    assert policy.rules["udp-reply-source"].mode == "off"
    assert policy.rules["udp-reply-source"].fixes == ("bind-advice",)
    assert policy.rules["notrack-breaks-nat"].mode == "advise"
    assert policy.require[0].params["ports"] == [5060]
    assert policy.waivers[0].until == "2027-03-31"
    assert policy.origins["persist"] == "p.yaml:5"
    assert policy.origins["rules.tcp-invalid-reset.from"] == "p.yaml:8"
    assert policy.origins["rules.tcp-invalid-reset.mode"].startswith("policies/default.yaml:")
    assert policy.origins["require.0"] == "p.yaml:13"
    assert policy.origins["waivers.0"] == "p.yaml:17"


def test_off_may_be_written_as_yaml_1_1_tools_write_it(write: Write) -> None:
    for word in ("off", "false", '"off"'):
        write(f"rules:\n  udp-reply-source: {{mode: {word}}}\n")
        assert compile_policy(("p.yaml",)).policy.rules["udp-reply-source"].mode == "off"


def test_a_rule_that_does_not_say_its_mode_changes_nothing(write: Write) -> None:
    write("rules:\n  tcp-invalid-reset: {fixes: [invalid-drop]}\n")
    policy = compile_policy(("p.yaml",)).policy
    assert policy.rules["tcp-invalid-reset"].mode == "advise"
    assert policy.origins["backend"] == BUILT_IN


def test_later_sources_win_and_common_ancestors_come_once(write: Write) -> None:
    write("extends: kubernetes-node\nbackend: iptables\n", "a.yaml")
    write("extends: default\nrules:\n  udp-reply-source: {from: proven}\n", "b.yaml")
    compiled = compile_policy(("a.yaml", "b.yaml"))
    labels = [place.label for place, _ in compiled.read]
    assert labels == [
        "policies/default.yaml", "policies/kubernetes-node.yaml", "a.yaml", "b.yaml",
    ]  # fmt: skip
    policy = compiled.policy
    assert policy.names == ("mine", "mine")
    assert policy.backend == "iptables"
    assert policy.rules["tcp-invalid-reset"].fixes[0] == "tcp-be-liberal"
    assert policy.rules["udp-reply-source"].from_ == "proven"


def test_the_same_requirement_and_a_renewed_waiver_take_the_old_place(write: Write) -> None:
    waiver = "{condition: conntrack-pressure, subject: '*', until: %s, reason: r, owner: o}"
    write(
        "require:\n"
        "  - {fix: invalid-drop, reason: one}\n"
        "  - {fix: tcp-be-liberal, reason: one}\n"
        "waivers:\n"
        f"  - {waiver % '2020-01-01'}\n",
        "a.yaml",
    )
    write(
        "extends: a.yaml\n"
        "require:\n"
        "  - {fix: invalid-drop, reason: two}\n"
        "waivers:\n"
        f"  - {waiver % '2099-01-01'}\n"
    )
    policy = compile_policy(("p.yaml",)).policy
    assert [(s.fix, s.reason) for s in policy.require] == [
        ("invalid-drop", "two"),
        ("tcp-be-liberal", "one"),
    ]
    assert [w.until for w in policy.waivers] == ["2099-01-01"]


def test_the_digest_follows_every_source_byte(write: Write) -> None:
    write("", "base.yaml")
    write("extends: base.yaml\n")
    first = compile_policy(("p.yaml",)).policy.digest
    assert compile_policy(("p.yaml",)).policy.digest == first
    write("# a comment\n", "base.yaml")
    assert compile_policy(("p.yaml",)).policy.digest != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bakend: auto", "3: bakend: unknown key; did you mean 'backend'?"),
        ("zzz: 1", "3: zzz: unknown key; known keys: apiVersion, name, extends, backend, persist,"
         " rules, site, require, waivers"),
        ("persist: yes", "3: persist: expected true or false, found 'yes'; correct the value"),
        ("persist: 1", "3: persist: expected true or false, found 1; correct the value"),
        ("backend: nft", "3: backend: 'nft' is not a valid value; one of: auto, nftables, "),
        ("backend:", "3: backend: nothing is not a valid value; one of: auto, nftables, iptables"),
        ("rules: []", "3: rules: expected a mapping, found a list; correct the value"),
        ("rules:", "3: rules: has no value; give it one or remove the key"),
        ("rules:\n  udp-reply-source:", "4: rules.udp-reply-source: has no value; give it one or"
         " remove the key"),
        ("rules:\n  tcp-invalid-rest: {mode: fix}", "4: rules.tcp-invalid-rest: unknown condition"
         " 'tcp-invalid-rest'; did you mean 'tcp-invalid-reset'?"),
        ("rules:\n  udp-reply-source:\n    mode: no", "5: rules.udp-reply-source.mode: 'no' is not"
         " a valid value; one of: fix, advise, off"),
        ("rules:\n  udp-reply-source:\n    mode: true", "5: rules.udp-reply-source.mode: true is"
         " not a valid value; one of: fix, advise, off"),
        ("rules:\n  udp-reply-source:\n    form: active", "5: rules.udp-reply-source.form: unknown"
         " key; did you mean 'from'?"),
        ("rules:\n  udp-reply-source:\n    fixes: bind-advice", "5: rules.udp-reply-source.fixes:"
         " expected a list, found 'bind-advice'; correct the value"),
        ("rules:\n  udp-reply-source:\n    fixes: {any: []}", "5: rules.udp-reply-source.fixes.all:"
         " is missing; add 'all:'"),
        ("rules:\n  tcp-invalid-reset:\n    fixes:\n      - invalid-drop\n      - invalid_drop",
         "7: rules.tcp-invalid-reset.fixes.1: unknown fix 'invalid_drop'; did you mean"
         " 'invalid-drop'?"),
        ("rules:\n  udp-reply-source: {fixes: [invalid-drop]}", "4: rules.udp-reply-source.fixes.0:"
         " invalid-drop does not answer udp-reply-source; it answers: tcp-invalid-reset"),
        ("rules:\n  tcp-invalid-reset:\n    accept_harm: [udp-redirect]", "5: rules"
         ".tcp-invalid-reset.accept_harm.0: udp-redirect does not answer tcp-invalid-reset;"
         " it answers: udp-reply-source, udp-connected-server, udp-proxy-hairpin"),
        ("rules:\n  tcp-invalid-reset: {accept_harm: invalid-drop}", "4: rules.tcp-invalid-reset"
         ".accept_harm: expected a list, found 'invalid-drop'; correct the value"),
        ("rules:\n  tcp-invalid-reset:\n    accept_harm: [invalid_drop]", "5: rules"
         ".tcp-invalid-reset.accept_harm.0: unknown fix 'invalid_drop'; did you mean"
         " 'invalid-drop'?"),
        ("rules:\n  udp-reply-source: {params: {nonsense: 1}}", "4: rules.udp-reply-source.params"
         ".nonsense: unknown parameter; parameters: "),
        ("rules:\n  tcp-invalid-reset: {mode: fix}", "4: rules.tcp-invalid-reset.mode: mode is fix,"
         " and no fix is named; add 'fixes: [...]', or use 'mode: advise'"),
        ("require: {fix: notrack}", "3: require: expected a list, found a mapping; correct the"
         " value"),
        ("require:\n  - {fix: invalid-drop}", "4: require.0.reason: is missing; add 'reason:'"),
        ("require:\n  - {fix: invalid-drop, reason: ''}", "4: require.0.reason: expected text that"
         " is not empty, found ''; correct the value"),
        ("require:\n  - {fix: drop-invalid, reason: r}", "4: require.0.fix: unknown fix"
         " 'drop-invalid'; 'remedy list' names them"),
        ("require:\n  - {fix: notrack, params: {protocol: udp, ports: [1]}, reason: r}",
         "4: require.0.params.addresses: is missing; notrack needs it"),
        ("require:\n  - fix: notrack\n    reason: r\n    params: {protocol: udp, ports: [sip],"
         " addresses: [192.0.2.1]}", "6: require.0.params: notrack: parameter 'ports' cannot be"
         " 'sip'; give numbers from 1 to 65535"),
        ("waivers:\n  - {condition: conntrack-pressure, subject: x, until: soon, reason: r,"
         " owner: o}", "4: waivers.0.until: expected a date, YYYY-MM-DD, found 'soon'; correct the"
         " value"),
        ("waivers:\n  - {condition: conntrack, subject: x, until: 2099-01-01, reason: r, owner: o}",
         "4: waivers.0.condition: unknown condition 'conntrack'; did you mean"),
        ("extends: [default]", "3: extends: expected text, found a list; correct the value"),
        ("extends: defualt", "3: extends: defualt: neither a shipped policy nor a file; did you"
         " mean 'default'?"),
        ("extends: base/none.yaml", "3: extends: base/none.yaml: no such policy file; check the"
         " path"),
        ("extends: ./p.yaml", "3: extends: policies extend each other: p.yaml -> ./p.yaml; remove"
         " one 'extends'"),
    ],
)  # fmt: skip
def test_one_line_names_file_line_key_and_what_to_do(write: Write, text: str, message: str) -> None:
    write(text + "\n")
    (first, *_) = problems("p.yaml")
    assert first.startswith(f"p.yaml:{message}")
    with pytest.raises(ConfigError) as caught:
        compile_policy(("p.yaml",))
    assert str(caught.value) == first
    assert caught.value.exit_code == 78


def test_head_lines_are_required(write: Write) -> None:
    write("persist: false\n", head="")
    assert problems("p.yaml") == [
        "p.yaml:1: apiVersion: is missing; add 'apiVersion:'",
        "p.yaml:1: name: is missing; add 'name:'",
    ]
    write("", head="apiVersion: remedy/v2\nname: a b\n")
    first, second = problems("p.yaml")
    assert first.startswith("p.yaml:1: apiVersion: 'remedy/v2' is not a valid value; did you mean")
    assert second.startswith("p.yaml:2: name: expected letters, digits")


def test_every_problem_is_told_in_the_order_of_its_line(write: Write) -> None:
    write(
        """\
        rules:
          tcp-invalid-rest: {mode: off}
          udp-reply-source: {fixes: [nothing-like-it]}
        require:
          - {fix: nope, reason: r}
        """
    )
    assert [text.split(": ")[0] for text in problems("p.yaml")] == [
        "p.yaml:4", "p.yaml:5", "p.yaml:7",
    ]  # fmt: skip


def test_a_longer_ring_is_told_where_it_closes(write: Write) -> None:
    write("extends: b.yaml\n", "a.yaml")
    write("extends: a.yaml\n", "b.yaml")
    assert problems("a.yaml") == [
        "b.yaml:3: extends: policies extend each other: a.yaml -> b.yaml -> a.yaml;"
        " remove one 'extends'"
    ]


def test_a_chain_without_end_ends(write: Write) -> None:
    for number in range(30):
        write(f"extends: n{number + 1}.yaml\n", f"n{number}.yaml")
    (message,) = problems("n0.yaml")
    assert message.startswith("n15.yaml:3: extends: more than 16 policies extend each other")


def test_values_from_the_file_cannot_drive_the_terminal(write: Write) -> None:
    write('"\\e[31mred": 1\nbackend: "\\e]0;title\\a"\n')
    assert all(message.isprintable() for message in problems("p.yaml"))


def test_what_show_prints_compiles_to_the_same(write: Write) -> None:
    write(
        """\
        extends: nat-gateway
        rules:
          udp-reply-source: {mode: off}
          tcp-invalid-reset: {accept_harm: [invalid-drop]}
        require:
          - fix: notrack
            params: {protocol: udp, ports: [5060], addresses: ["::1"]}
            reason: "a: b"
        waivers:
          - condition: conntrack-pressure
            subject: "*"
            until: 2099-01-01
            reason: "#1"
            owner: no
        """
    )
    policy = compile_policy(("p.yaml",)).policy
    text = to_yaml(policy)
    write(text, "again.yaml", head="")
    again = compile_policy(("again.yaml",)).policy
    assert (again.backend, again.persist, again.rules, again.require, again.waivers) == (
        policy.backend, policy.persist, policy.rules, policy.require, policy.waivers,
    )  # fmt: skip
    assert "mode: 'off'  # p.yaml:5" in text
    assert "accept_harm: [invalid-drop]  # p.yaml:6" in text
    assert "persist: true  # policies/nat-gateway.yaml:" in text


def test_a_wrong_word_does_not_hide_what_else_is_wrong(write: Write) -> None:
    write(
        """\
        rules:
          tcp-invalid-reset: {mode: fixx, fixes: [invalid-drp]}
          udp-reply-source: {fixes: [3], accept_harm: [notrack]}
          every-fault: {}
        require:
          - fix: ntrack
          - {fix: invalid-drp, reason: drops}
        surprise: 1
        """
    )
    found = problems("p.yaml")
    places = [text.partition(": ")[2].partition(": ")[0] for text in found]
    assert places == [
        "rules.tcp-invalid-reset.mode",
        "rules.tcp-invalid-reset.fixes.0",
        "rules.udp-reply-source.fixes.0",
        "rules.udp-reply-source.accept_harm.0",
        "rules.every-fault",
        "require.0.reason",
        "surprise",
    ]


def test_a_key_too_many_in_a_list_hides_nothing_else_of_it(write: Write) -> None:
    write(
        """\
        require:
          - {fix: no-such, reason: a}
          - {fix: tcp-be-liberal, reason: b, more: 1}
          - {fix: neither, reason: c}
        """
    )
    places = [text.split(": ")[1] for text in problems("p.yaml")]
    assert places == ["require.0.fix", "require.1.more", "require.2.fix"]


ALONE = """\
extends: default
unattended: {conditions: [tcp-invalid-reset], budget: 3}
"""


def test_what_a_watch_may_apply_alone(write: Write) -> None:
    write(ALONE, "base.yaml")
    write(ALONE)
    policy = compile_policy(["p.yaml"]).policy
    assert policy.unattended == Unattended(("tcp-invalid-reset",), budget=3, each=1)
    write(to_yaml(policy).partition("name: mine\n")[2], "shown.yaml")
    assert compile_policy(["shown.yaml"]).policy.unattended == policy.unattended
    write("extends: base.yaml\nunattended: null\n")
    assert compile_policy(["p.yaml"]).policy.unattended is None
    assert compile_policy(["default"]).policy.unattended is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unattended: {conditions: [tcp-invalid-reste]}", "tcp-invalid-reste"),
        ("unattended: {conditions: []}", "unattended.conditions"),
        ("unattended: {conditions: [tcp-invalid-reset], budget: 0}", "unattended.budget"),
        ("unattended: {conditions: [conntrack-pressure]}", "no harmless fix"),
        ("unattended: {conditions: [tcp-invalid-reset]}\n"
         "rules: {tcp-invalid-reset: {fixes: [invalid-drop]}}", "no harmless fix"),
        ("unattended: {conditions: [tcp-invalid-reset]}\n"
         "rules: {tcp-invalid-reset: {mode: advise}}", "no harmless fix"),
    ],
)  # fmt: skip
def test_what_it_could_never_apply_is_refused(write: Write, text: str, said: str) -> None:
    write(f"extends: default\n{text}\n")
    (problem,) = problems("p.yaml")
    assert said in problem
    assert "p.yaml:" in problem
