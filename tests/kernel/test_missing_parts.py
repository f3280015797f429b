"""Hosts that lack something: one line that says what, the exit code, and nothing changed."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty import Host

from remedies.lab import ruleset
from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.world import Options, World

HIDE = 'mount --bind /dev/null "$0" && exec "$@"'
READ_ONLY = (
    'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && shift 0 && exec "$@"'
)
LIBERAL = """\
apiVersion: remedy/v1
name: liberal
rules:
  tcp-invalid-reset: {mode: fix, from: exposed, fixes: [tcp-be-liberal]}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def world() -> Iterator[World]:
    with World("tcp-invalid-reset", Options()) as made:
        tcp_invalid_reset.build(made)
        yield made


@pytest.fixture
def remedy(world: World, tmp_path: Path) -> Run:
    """Return what runs a command line in the world, in a mount namespace that a script changes."""

    def run(script: str, first: str, *words: str) -> subprocess.CompletedProcess[str]:
        options = ["--netns", world.namespace("host"), "--state-dir", str(tmp_path / "state")]
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, first,
             sys.executable, "-m", "remedies", *options, *words],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


def test_without_libnftables(world: World, remedy: Run) -> None:
    (library,) = glob.glob("/usr/lib/*/libnftables.so.1")
    before = ruleset.dump(world)
    assert remedy(HIDE, library, "plan", "--window", "0").returncode == 0
    done = remedy(HIDE, library, "apply", "--yes", "--window", "0")
    assert done.returncode == 1
    assert "libnftables cannot be loaded" in done.stderr
    assert "apt install libnftables1" in done.stderr
    assert ruleset.difference(before, ruleset.dump(world)) == ""
    doctor = remedy(HIDE, library, "doctor")
    assert (doctor.returncode, "libnftables" in doctor.stdout) == (1, True)


def test_with_a_read_only_proc_sys(world: World, remedy: Run, tmp_path: Path) -> None:
    policy = tmp_path / "liberal.yaml"
    policy.write_text(LIBERAL)
    before = ruleset.dump(world)
    words = ("apply", "--yes", "--window", "0", "--policy", str(policy))
    done = remedy(READ_ONLY, "sh", *words)
    assert done.returncode in (1, 77)
    (line,) = done.stderr.splitlines()
    assert "net.netfilter.nf_conntrack_tcp_be_liberal" in line
    assert "read-only" in line.lower()
    assert ruleset.difference(before, ruleset.dump(world)) == ""
    assert not list((tmp_path / "state").glob("*/journal.jsonl"))[1:]


AS_NOBODY = """\
import importlib, os, pkgutil, sys
import pydantic, pydantic.deprecated, yaml
import difflib, encodings.ascii, encodings.idna, json, traceback
import remedies
for module in pkgutil.walk_packages(remedies.__path__, "remedies."):
    if not module.name.startswith(("remedies.__main__", "remedies.lab", "remedies.resources.iptc",
                                   "remedies.fleet", "remedies.report")):
        importlib.import_module(module.name)
from remedies import policy
from remedies.namespaces import netns
from remedies.cli import main
netns.enter(sys.argv[1])
policy.load()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(sys.argv[2:]))
"""


def as_nobody(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, world.namespace("host"), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_root_scan_says_what_it_could_not_read(world: World) -> None:
    done = as_nobody(world, "scan", "--window", "0")
    assert done.returncode == 0, done.stderr
    (unjudged,) = (line for line in done.stdout.splitlines() if "tcp-invalid-reset" in line)
    assert unjudged.startswith("unknown ")
    assert "run as root" in done.stdout
    assert as_nobody(world, "scan", "--window", "0", "--strict").returncode == 2


@pytest.mark.parametrize("verb", ["apply", "rollback"])
def test_without_root_nothing_is_written(world: World, verb: str) -> None:
    done = as_nobody(world, verb, "--yes")
    assert done.returncode == 77
    assert done.stderr == (
        f"remedy: 'remedy {verb}' changes the host; run as root, or use --dry-run\n"
    )


def test_a_namespace_cannot_be_entered_without_root(world: World) -> None:
    for namespace in (world.namespace("host"), str(os.getpid())):
        done = as_nobody(world, "--netns", namespace, "status")
        assert done.returncode == 77
        assert "network namespace" in done.stderr


def test_what_the_journal_says_is_not_nothing_where_it_may_not_be_read(
    world: World, remedy: Run, tmp_path: Path
) -> None:
    assert remedy('exec "$@"', "sh", "apply", "--yes", "--window", "0").returncode == 0
    state = ("--state-dir", str(tmp_path / "state"))
    for verb in (["status"], ["verify", "--window", "0"], ["history"], ["rollback", "-n"]):
        done = as_nobody(world, *state, *verb)
        assert (done.returncode, done.stdout) == (77, ""), (verb, done.stderr)
        assert "cannot read the journal" in done.stderr
    scan = as_nobody(world, *state, "scan", "--window", "0")
    assert (scan.returncode, "remedy's own" in scan.stderr) == (0, True)


def test_without_systemd_a_policy_that_persists_is_refused_when_planned(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    host = Host(netns("boot"), tmp_path).prepare()
    shutil.rmtree(tmp_path / "root/etc/systemd")
    before = host.dump()
    for verb in (("plan",), ("apply", "--yes")):
        done = host.run(*verb)
        assert done.code == 8
        assert "it cannot be made persistent" in done.out
        assert "there is no /etc/systemd/system; set 'persist: false' in the policy" in " ".join(
            done.out.split()
        )
    assert host.dump() == before
    assert host.run("rollback", "--yes").code == 0
