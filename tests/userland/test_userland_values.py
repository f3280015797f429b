"""What was written is what is there, as every Debian's nft and iptables print it and its Python
reads it.

Each userland is one world for all tests of this file: a test leaves it as it found it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ruleset_steps import Step, wanted
from userland_world import Userland

from remedies.boot.units import boot_files
from remedies.lab import ruleset

NAT = """
table ip theirs {
  chain post {
    type nat hook postrouting priority 100
    masquerade
  }
}
"""
KEY = "net.netfilter.nf_conntrack_tcp_be_liberal"
POLICY = """\
apiVersion: remedy/v1
name: userland
extends: default
backend: {backend}
rules:
  tcp-invalid-reset: {{mode: fix, from: exposed, fixes: [{fix}], accept_harm: [{fix}]}}
"""
LIBERAL = POLICY.format(backend="auto", fix="tcp-be-liberal")
SYSCTLS = """
import json
from remedies.errors import RemedyError
from remedies.resources import sysctl

def said(key, value, act=sysctl.write):
    try:
        act(key, value)
        return sysctl.read(key)
    except RemedyError as error:
        return f"{type(error).__name__}: {error.what}"

print(json.dumps([said(*pair) for pair in json.load(sys.stdin)]))
"""
WRITTEN = """
import json
from remedies.namespaces import netns
from remedies.model import Change
from remedies.resources import driver
from remedies.resources.program import run
from remedies.transaction import undofile

def undone(address, state):
    change = Change("f", None, address, "create", None, state, "", "exact", "low", "")
    return undofile.script("t", "host", [change])

for item in json.load(sys.stdin):
    kind, path = driver(item["address"])
    with netns.scratch():
        kind.check(path, item["state"])
        kind.write(path, item["state"])
        found = kind.read(path)
        assert kind.same(path, found, item["state"]), (item["state"], found)
        kind.write(path, item["state"])
        assert kind.read(path) == found, "written twice"
        kind.write(path, None)
        assert kind.same(path, kind.read(path), None), kind.read(path)
        run(item["load"], item["boot"])
        assert kind.same(path, kind.read(path), item["state"]), kind.read(path)
        run(["sh", "-s"], undone(item["address"], item["state"]))
        assert kind.same(path, kind.read(path), None), kind.read(path)
"""


@pytest.fixture(scope="module")
def world(userland: Callable[..., Userland]) -> Iterator[Userland]:
    with userland() as made:
        yield made


@contextlib.contextmanager
def unchanged(world: Userland) -> Iterator[None]:
    """Have NAT, and after the block the same rules and values as before it; then remove it."""
    world.sh("nft", "-f", "-", stdin=NAT)
    before = ruleset.dump(world)
    try:
        yield
        assert ruleset.difference(before, ruleset.dump(world)) == ""
    finally:
        world.sh("nft", "flush", "ruleset")


def test_a_sysctl_is_read_back(world: Userland) -> None:
    asked = [
        ("net.ipv4.ip_local_port_range", "20000 30000"),
        ("net.ipv4.ip_default_ttl", "010"),  # proc_dointvec() reads an octal number
        (KEY, "2"),
        (KEY, "1"),
        (KEY, "0"),
        ("net.netfilter.nf_conntrack_max", "1000"),
        ("net.netfilter.no_such_key", "1"),
        (KEY, None),
    ]
    said = json.loads(world.python(SYSCTLS, stdin=json.dumps(asked)))
    assert said == [
        "20000 30000",
        "WriteFailed: sysctl net.ipv4.ip_default_ttl: wrote 010, reads 8",
        f"WriteFailed: sysctl {KEY}: the kernel refuses '2': Invalid argument",
        "1",
        "0",
        "NotPermitted: sysctl net.netfilter.nf_conntrack_max: "
        "the kernel does not let it be written here",
        "WriteFailed: sysctl net.netfilter.no_such_key: no such key in this namespace",
        f"WriteFailed: sysctl {KEY}: a key of the kernel cannot be removed",
    ]


@pytest.mark.parametrize(
    ("mount", "code", "words"),
    [
        ("-o bind,ro /proc/sys /proc/sys", 77, "/proc/sys is mounted read-only here"),
        ("-t tmpfs none /proc/sys/net/netfilter", 8, f"{KEY}: "),
    ],
    ids=["read-only", "absent"],
)
def test_a_key_that_cannot_be_written_is_refused(
    world: Userland, mount: str, code: int, words: str
) -> None:
    policy = world.policy(LIBERAL)
    with unchanged(world):
        *_, place = mount.split()
        world.sh("mount", *mount.split())
        try:
            made = world.command("apply", "--yes", "--policy", policy, "--window", "0", code=code)
        finally:
            world.sh("umount", place)
        said = made + (world.root / "run/err").read_text()
        assert words in said
        assert world.json("status")["in_force"] == []


def states(variant: str) -> Iterator[dict[str, Any]]:
    """Yield each table and chain of our fixes, and its boot file and what loads it."""
    for fix in ("invalid-drop", "notrack", "udp-redirect", "clamp-mss", "loopback-drop"):
        for number in range(3 if fix in ("notrack", "udp-redirect") else 1):
            for backend in ("nftables", "iptables") if variant == "nft" else ("iptables",):
                made = wanted(Step("apply", fix, backend, number), variant)
                for one in made:
                    scheme = one.resource.partition(":")[0]
                    program = "nft" if scheme == "nft" else f"{scheme}-{variant}-restore"
                    options = ["-j", "-f", "-"] if scheme == "nft" else ["--noflush"]
                    data = boot_files(fix, (one,))[0]
                    yield {
                        "address": one.resource,
                        "state": one.state,
                        "boot": data.state,
                        "load": [program, *options],
                    }


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_tables_and_chains_are_read_back(world: Userland, variant: str) -> None:
    asked = list(states(variant))
    assert len(asked) >= 10
    world.python(WRITTEN, stdin=json.dumps(asked))


DROP = "-p tcp -m conntrack --ctstate INVALID -j DROP"
RULES = {
    "a drop": ([DROP], "mitigated"),
    "a drop behind an accept of all TCP": (["-p tcp -j ACCEPT", DROP[7:]], "exposed"),
    "a drop behind a jump of all TCP": (["-p tcp -j THEIRS"], "mitigated"),
    "a drop behind an accept of one port": (["-p tcp --dport 22 -j ACCEPT", DROP], "mitigated"),
}


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("rules", RULES)
def test_rules_of_this_iptables_are_understood(world: Userland, program: str, rules: str) -> None:
    """iptables-nft 1.8.11 writes ``-p tcp`` otherwise than those before it."""
    lines, verdict = RULES[rules]
    text = ["*filter", ":THEIRS - [0:0]", f"-A THEIRS {DROP}"]
    text += [f"-A {chain} {line}" for chain in ("INPUT", "FORWARD") for line in lines]
    text += ["COMMIT", "*nat", "-A POSTROUTING -j MASQUERADE", "COMMIT", ""]
    empty = "*filter\nCOMMIT\n*nat\nCOMMIT\n"
    try:
        for family in (program, program.replace("ip", "ip6", 1)):
            world.sh(f"{family}-restore", stdin="\n".join(text))
        found = world.json("scan", "--window", "0", "--show-all")["findings"]
        assert {f["verdict"] for f in found if f["condition"] == "tcp-invalid-reset"} == {verdict}
    finally:
        for family in (program, program.replace("ip", "ip6", 1)):
            world.sh(f"{family}-restore", stdin=empty)
        world.sh("nft", "flush", "ruleset")


OWN = "table ip {name} {{\n{chains}}}\n"
CHAIN = "chain c{0} {{\ntype filter hook input priority mangle; policy accept;\n}}\n"


def test_a_table_of_nfts_in_the_way_of_iptables(
    userland: Callable[..., Userland], suite: str
) -> None:
    """iptables 1.8.7 cannot list what later ones can: then nothing is written at all."""
    code = 1 if suite == "bullseye" else 0
    with userland() as world:
        policy = world.policy(POLICY.format(backend="iptables", fix="invalid-drop"))
        for name, count in (("filter", 2), ("mangle", 1)):
            chains = "".join(CHAIN.format(number) for number in range(count))
            with unchanged(world):
                world.sh("nft", "-f", "-", stdin=OWN.format(name=name, chains=chains))
                options = ("--yes", "--policy", policy, "--window", "0")
                world.command("apply", *options, code=code)
                said = (world.root / "run/err").read_text()
                assert ("set 'backend: nftables' in the policy" in said) == bool(code)
                if not code:
                    world.command("rollback", "--yes")
                world.sh("nft", "delete", "table", "ip", name)
