"""What others wrote into a table of our name comes back as it was, and never runs.

Whoever may write rules in a namespace that root manages chooses every name and comment there. They
become the before-state, and so text of the undo script and of exported playbooks, which run as
root. Each is run here, in a folder of its own: a file ``pwned`` or ``PROOF`` there is code that
ran.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ansible_in_forks
import pytest
from forked_cli import begun_in
from plays import UNUSED
from run_in import RunIn

from remedies.errors import WriteFailed
from remedies.model import Change
from remedies.namespaces import netns as namespaces
from remedies.resources import file
from remedies.rules import ours
from remedies.transaction import undofile

HOSTILE = (
    "\nEND-OF-REMEDY\ntouch pwned\n: <<'E'\n",
    "a'b\"c $(touch pwned) `touch pwned` \\ ;touch pwned",
    "{{lookup('pipe','touch${IFS}PROOF')}}",
    "{{ lookup('pipe', 'touch PROOF') }} {% if %}",
    "%s%n%(x)s\t\x1b[31m\x07",
    "\u202e\u2028\u0085 \U0001f525 \x7f",
    "</script><!-- --- ... &a *a !!python/object",
    "-e", "null", "1", "true", "-f /etc/passwd", "$0", "#",
)  # fmt: skip
TABLE = {"family": "inet", "table": "remedy_invalid_drop"}
POLICY = "apiVersion: remedy/v1\nname: one\nrequire:\n- {fix: invalid-drop, reason: test}\n"
NAT = "table ip world_nat { chain post { type nat hook postrouting priority 100; masquerade; }; }"


def before() -> str:
    """Return commands that fill the table: comments, chains, a set and a map with such names."""
    added: list[dict[str, Any]] = [{"table": {"family": "inet", "name": TABLE["table"]}}]
    added.append({"chain": {**TABLE, "name": "x"}})
    for text in HOSTILE:
        added.append({"chain": {**TABLE, "name": text}})
        jump = {"jump": {"target": text}}
        added.append(
            {"rule": {**TABLE, "chain": "x", "expr": [{"counter": None}, jump], "comment": text}}
        )
    for name in (HOSTILE[0], HOSTILE[2]):
        added.append(
            {"set": {**TABLE, "name": f"s{name}", "type": "ipv4_addr", "elem": ["192.0.2.1"]}}
        )
        added.append(
            {
                "map": {
                    **TABLE,
                    "name": f"m{name}",
                    "type": "inet_service",
                    "map": "verdict",
                    "elem": [[22, {"jump": {"target": name}}]],
                }
            }
        )
    added.append({"counter": {**TABLE, "name": "c;touch pwned"}})
    return json.dumps({"nftables": [{"add": each} for each in added]})


@pytest.fixture
def ns(netns: Callable[..., str], run_in: RunIn) -> str:
    """Give a namespace with NAT and a table of our name that somebody has filled."""
    name = netns("hostile")
    run_in(name, ["nft", "-f", "-"], stdin=NAT)
    run_in(name, ["nft", "-j", "-f", "-"], stdin=before())
    return name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder of its own; after the test no code of a text's has run in it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert [path for name in ("pwned", "PROOF") for path in tmp_path.rglob(f"{name}*")] == []


def listed(run_in: RunIn, ns: str) -> str:
    """Return the table without the handles, which the kernel gives anew."""
    text = run_in(ns, ["nft", "-j", "-s", "list", "table", "inet", TABLE["table"]]).stdout
    return ours.nft_canonical(json.loads(text)["nftables"])


def remedy(ns: str, here: Path, *words: str, code: int = 0) -> str:
    """Run a verb with a policy that requires invalid-drop; return what it says of errors."""
    policy = here / "policy.yaml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    options = ["--policy", str(policy), "--window", "0", "--state-dir", str(here / "state")]
    return begun_in(ns, *words, *options, code=code).stderr


def test_the_undo_script_brings_back_what_was_there(ns: str, here: Path, run_in: RunIn) -> None:
    was = listed(run_in, ns)
    assert len(was.splitlines()) > 2 * len(HOSTILE) + 4
    remedy(ns, here, "apply", "--yes", "--backend", "nftables")
    assert listed(run_in, ns) != was
    (script,) = (here / "state").glob("*/undo-*.sh")
    done = run_in(ns, ["sh", str(script)])
    assert (done.stdout, done.stderr) == ("", "")
    assert listed(run_in, ns) == was


def test_the_playbooks_bring_back_what_was_there(ns: str, here: Path, run_in: RunIn) -> None:
    was = listed(run_in, ns)
    remedy(ns, here, "plan", "--backend", "nftables", "-o", "p.json")
    begun_in(ns, "export", "ansible", "p.json", "-o", "out")
    environment = {"PATH": os.environ["PATH"], "HOME": str(here), "LC_ALL": "C.UTF-8",
                   "PYTHONPATH": UNUSED}  # fmt: skip

    def play(name: str, *options: str) -> bool:
        """Run one; tell whether it changed something."""
        argv = ["ansible-playbook", "-i", "localhost,", "-c", "local", f"out/{name}.yml",
                "-e", "remedy_hosts=all", "-e", "ansible_become=false",
                "-e", "ansible_python_interpreter=/usr/bin/python3", *options]  # fmt: skip
        code, out, err = ansible_in_forks.call(argv, ns, str(here), environment, 120)
        assert code == 0, out + err
        return "changed=0" not in out

    play("apply", "--check", "--diff")
    assert listed(run_in, ns) == was
    assert play("apply")
    assert listed(run_in, ns) != was
    play("rollback", "--check", "--diff")
    assert play("rollback")
    assert listed(run_in, ns) == was
    assert not play("rollback")


def test_without_nft_the_script_says_so_and_does_nothing(
    ns: str, here: Path, run_in: RunIn
) -> None:
    """Neither the table nor the setting that could be put back without nft."""
    key = "net.netfilter.nf_conntrack_tcp_be_liberal"
    run_in(ns, ["sysctl", "-q", "-w", f"{key}=1"])
    state = listed(run_in, ns)
    changes = (
        Change(
            "f", None, "nft:inet/remedy_invalid_drop", "update", state, None, "", "exact", "low", ""
        ),
        Change("f", None, f"sysctl:{key}", "update", "0", "1", "", "exact", "low", ""),
    )
    undofile.write(str(here), "t", undofile.script("t", "host", changes))
    (here / "bin").mkdir()
    old = here / "bin/nft"
    for made in ("", "#!/bin/sh\necho 'JSON support not compiled-in' >&2; exit 1\n"):
        if made:
            old.write_text(made)
            old.chmod(0o755)
        enter = ["/usr/bin/env", f"PATH={here}/bin", "/bin/sh", str(here / "undo-t.sh")]
        done = run_in(ns, enter, check=False)
        assert (done.returncode, done.stderr) == (1, "nft -j is missing: nothing was changed\n")
    assert run_in(ns, ["sysctl", "-n", key]).stdout == "1\n"
    assert listed(run_in, ns) == state


@pytest.mark.parametrize("text", [*HOSTILE, "\n", "a\nEND-OF-REMEDY\ntouch pwned\n", "\r\n\v\f"])
def test_every_byte_of_a_file_comes_back(
    here: Path, netns: Callable[..., str], run_in: RunIn, text: str
) -> None:
    target = here / f"file {text.replace('/', '').replace(chr(10), '')}"[:100]
    if not target.name.isprintable():
        target = here / "plain"
    target.write_text("ours")
    assert file.ROOT == ""
    change = Change("f", None, f"file:{target}", "update", text, "ours", "", "exact", "low", "")
    undofile.write(str(here), "t", undofile.script("t", "host", (change,)))
    done = run_in(netns("file"), ["sh", str(here / "undo-t.sh")])
    assert (done.stderr, target.read_bytes()) == ("", text.encode())


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_a_chain_of_iptables_comes_back_or_is_refused(
    here: Path, netns: Callable[..., str], run_in: RunIn, text: str, variant: str
) -> None:
    """A comment with a newline is two lines of iptables-save: no restore reads it back."""
    ns = netns("xt")
    program = f"iptables-{variant}"
    chain = "REMEDY-INVALID"
    comment = ["-m", "comment", "--comment", text]
    run_in(ns, [program, "-w", "-t", "mangle", "-N", chain])
    run_in(ns, [program, "-w", "-t", "mangle", "-A", chain, *comment, "-j", "ACCEPT"])
    run_in(ns, [program, "-w", "-t", "mangle", "-A", "INPUT", "-j", chain])
    with namespaces.inside(ns):
        from remedies.resources import iptables

        was = iptables.read(f"mangle/{chain}")
        wanted = ours.iptables_chain(f"mangle/{chain}", variant, ("INPUT",), ("-j DROP",))
        change = Change(
            "f", None, f"iptables:mangle/{chain}", "update", was, wanted, "", "lossy", "low", ""
        )
        if "\n" in text:
            with pytest.raises(WriteFailed, match=f"^iptables:mangle/{chain}: no script could"):
                undofile.script("t", "host", (change,))
            return
        undofile.write(str(here), "t", undofile.script("t", "host", (change,)))
        iptables.write(f"mangle/{chain}", wanted)
    run_in(ns, ["sh", str(here / "undo-t.sh")])
    with namespaces.inside(ns):
        assert iptables.read(f"mangle/{chain}") == was


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_apply_refuses_what_could_not_come_back(
    here: Path, netns: Callable[..., str], run_in: RunIn, variant: str
) -> None:
    ns = netns("xt")
    program = f"iptables-{variant}"
    run_in(ns, [program, "-w", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"])
    run_in(ns, [program, "-w", "-t", "mangle", "-N", "REMEDY-INVALID"])
    comment = ["-m", "comment", "--comment", HOSTILE[0]]
    run_in(ns, [program, "-w", "-t", "mangle", "-A", "REMEDY-INVALID", *comment, "-j", "ACCEPT"])
    was = run_in(ns, [f"{program}-save"]).stdout.replace("#", "")
    said = remedy(ns, here, "apply", "--yes", "--backend", "iptables", code=1)
    assert "iptables:mangle/REMEDY-INVALID" in said
    assert len(said.splitlines()) == 1
    lines = run_in(ns, [f"{program}-save"]).stdout.replace("#", "").splitlines()
    dates = ("Generated", "Completed")
    assert [li for li in lines if not any(d in li for d in dates)] == [
        li for li in was.splitlines() if not any(d in li for d in dates)
    ]
    assert list((here / "state").glob("*/undo-*")) == []
