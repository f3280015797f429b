"""Undo ends as promised while somebody else writes rules into the same table all the time.

``python tests/kernel/test_undo_beside_writers.py RULES RATE TRIALS`` prints one cell of the table
with as many rules, commits a second and trials as are asked for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty import Host

from remedies.fixes import invalid_drop
from remedies.namespaces import netns as namespaces
from remedies.netfilter.stores import NfTables
from remedies.resources import iptables, nft, present
from remedies.rules import ours

PATH = "mangle/REMEDY-INVALID"
CHAIN = ours.iptables_chain(PATH, "nft", ("INPUT", "FORWARD"), (invalid_drop.LINE,))
LEGACY = ours.iptables_chain(PATH, "legacy", ("INPUT", "FORWARD"), (invalid_drop.LINE,))
TABLE = "inet/remedy_invalid_drop"
STATE = ours.nft_table(
    TABLE,
    (
        ours.NftChain(
            "input", "filter", "input", -10, ((ours.ct_state("invalid"), ours.counter()),)
        ),
    ),
)
CASES = {
    "iptables-nft": (iptables, PATH, CHAIN),
    "nftables": (nft, TABLE, STATE),
    "iptables-legacy": (iptables, PATH, LEGACY),
}

NETLINK_WRITER = """
import struct, sys, time
from remedies.netlink.socket import attribute, nested
from remedies.resources import nf_tables as n
rate = float(sys.argv[1])
head = n._head("ip") + attribute(1, b"mangle\\0")
new = head + attribute(3, b"WRITER\\0")
rule = head + attribute(2, b"WRITER\\0")
expression = nested(4, nested(1, attribute(1, b"counter\\0"), nested(2)))
into = head + attribute(2, b"FORWARD\\0") + expression
n._commit(None, ((n._NEWCHAIN, 0x400, new),))
count, began = 0, time.monotonic()
while True:
    parts = ((n._NEWRULE, 0xC00, rule + expression),) if count % 2 else ((n._DELRULE, 0, rule),)
    if count % 10 == 5:  # and a rule into the chain that holds them all
        parts = ((n._NEWRULE, 0xC00, into),)
    n._commit(None, parts)
    count += 1
    if count == 1:
        print("ready", flush=True)
    time.sleep(max(0.0, began + count / rate - time.monotonic()))
"""
LEGACY_WRITER = """
import subprocess, sys, time
rate, count, began = float(sys.argv[1]), 0, time.monotonic()
while True:
    verb = ("-A", "-D")[count % 2]
    tool = ["iptables-legacy", "-w", "-t", "mangle", verb, "FORWARD", "-p", "17", "-j", "ACCEPT"]
    subprocess.run(tool, check=True)
    count += 1
    if count == 1:
        print("ready", flush=True)
    time.sleep(max(0.0, began + count / rate - time.monotonic()))
"""


@contextmanager
def written_to(rules: int, rate: float, legacy: bool = False, ns: str = "") -> Iterator[None]:
    """Be in a namespace whose mangle table holds rules and is written to ``rate`` times a second.

    In ``ns``, or in a new one.
    """
    lines = "".join(
        f"-A FORWARD -s 10.{n >> 16}.{n >> 8 & 255}.{n & 255} -p tcp -j ACCEPT\n"
        for n in range(rules)
    )
    with namespaces.inside(ns) if ns else namespaces.scratch():
        store = "legacy" if legacy else "nft"
        text = f"*mangle\n:FORWARD ACCEPT [0:0]\n{lines}COMMIT\n"
        restore = [f"iptables-{store}-restore", "--noflush"]
        subprocess.run(restore, input=text, text=True, check=True)
        writer = subprocess.Popen(
            [sys.executable, "-c", LEGACY_WRITER if legacy else NETLINK_WRITER, str(rate)],
            stdout=subprocess.PIPE,
        )
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            yield
            assert writer.poll() is None, "the writer writes still"
        finally:
            writer.kill()
            writer.communicate()


def trial(kind: str, *, check: bool = True) -> tuple[float, float]:
    """Write and undo once; return the seconds that each took."""
    driver, path, state = CASES[kind]
    before = driver.read(path)
    if check:
        driver.check(path, state)
    began = time.monotonic()
    driver.write(path, state)
    assert driver.same(path, driver.read(path), state)
    written = time.monotonic()
    driver.write(path, before)
    assert driver.same(path, driver.read(path), before)
    return written - began, time.monotonic() - written


@pytest.mark.parametrize("rules", [0, 5000])
@pytest.mark.parametrize("kind", ["iptables-nft", "nftables"])
def test_undone_beside_a_writer(kind: str, rules: int) -> None:
    with written_to(rules, 100):
        before = iptables.read(PATH)
        for _ in range(3):
            trial(kind)
        assert iptables.read(PATH) == before, "built-in chains that we caused are gone, too"


@pytest.mark.parametrize("backend", ["iptables-nft", "nftables"])
def test_timers_and_rollbacks_end_as_promised_beside_a_writer(
    netns: Callable[..., str], tmp_path: Path, backend: str
) -> None:
    host = Host(netns("beside"), tmp_path, backend).prepare()

    def run(*words: str, code: int = 0) -> None:
        done = host.run(*words)
        assert done.code == code, done.out

    with written_to(5000, 100, ns=host.ns):
        run("apply", "--yes", "--confirm-timeout", "5s")
        assert host.run("status", "--json").json["in_force"]
        host.unguarded()
        run("confirm", code=7)
        assert present.addresses() == ()
        run("apply", "--yes", "--confirm-timeout", "60s")
        run("confirm")
        run("status")
        run("rollback", "--yes")
        assert present.addresses() == ()
    outcomes = [t["outcome"] for t in host.run("history", "--json").json["transactions"]]
    assert outcomes == ["rolled-back", "confirmed", "reverted"]


def test_legacy_is_undone_beside_a_writer(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", f"{tmp_path}/lock")
    with written_to(2000, 50, legacy=True):
        for _ in range(3):
            trial("iptables-legacy")


def test_jumps_below_everything_are_found() -> None:
    """An admin may move our jump behind everything else: it is found there, and goes."""
    with written_to(5000, 100):
        before = iptables.read(PATH)
        iptables.write(PATH, CHAIN)
        tool = ["iptables-nft", "-t", "mangle"]
        subprocess.run([*tool, "-I", "FORWARD", "-j", "ACCEPT"], check=True)
        subprocess.run(["nft", "add", "rule", "ip", "mangle", "FORWARD", "jump", "REMEDY-INVALID"],
                       check=True)  # fmt: skip
        iptables.write(PATH, before)
        assert iptables.read(PATH) == before


def test_every_rule_is_read_beside_a_writer() -> None:
    """One commit comes for each few datagrams of the dump, and moves what is read."""
    with written_to(5000, 100):
        for _ in range(3):
            read = set(NfTables(time.monotonic() + 60).raw("ip", "mangle", "FORWARD"))
            sources = {rule[rule.index(b"payload") :] for rule in read if b"payload" in rule}
            assert len(sources) == 5000


def main() -> None:
    rules, rate, trials = (int(word) for word in sys.argv[1:4])
    for kind in sys.argv[4:] or CASES:
        os.environ["XTABLES_LOCKFILE"] = f"/tmp/remedy-writers-{os.getpid()}.lock"
        with written_to(rules, rate, kind.endswith("legacy")):
            times, failed = [], []
            for number in range(trials):
                try:
                    times.append(trial(kind, check=not number))
                except Exception as error:
                    failed.append(str(error))
        undo = sorted(t[1] for t in times)
        write = sorted(t[0] for t in times)
        print(f"{kind:16} {rules:6} rules {rate:4}/s: {len(times)} of {trials}"
              + (f", write median {write[len(write) // 2]:.2f} max {write[-1]:.2f} s, "
                 f"undo median {undo[len(undo) // 2]:.2f} max {undo[-1]:.2f} s" if times else ""),
              *set(failed), sep="\n  " if failed else " ", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
