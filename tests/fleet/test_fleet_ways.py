"""Ways to the hosts, and what a person sees: a jump host, every kind of inventory, a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import threading
from pathlib import Path
from typing import Any

from fleet_host import LightHost
from light_fleet import BIN, Fleet


def test_hosts_behind_a_jump_host_are_reached_with_the_users_own_ssh_arguments(
    fleet: Fleet,
) -> None:
    jump, behind = fleet.host("jump", exposed=False), fleet.host("behind")
    # Nothing but the jump host's address is let in: the way there is the only one.
    behind.inside(
        "nft",
        "-f",
        "-",
        stdin=f"""
        table inet wall {{
          chain i {{
            type filter hook input priority -10; policy accept;
            tcp dport 22 ip saddr != {jump.address} drop
          }}
        }}
    """,
    )
    config = fleet.folder / "jump_config"
    config.write_text(
        f"Host gate\n  HostName {jump.address}\n  User root\n  IdentityFile {fleet.folder}/key\n"
        f"  UserKnownHostsFile {fleet.folder}/known_hosts\nHost *\n"
        f"  UserKnownHostsFile {fleet.folder}/known_hosts\n"
    )
    common = "-o ProxyJump=gate -o StrictHostKeyChecking=yes"
    behind.variables["ansible_ssh_common_args"] = common
    # A shared connection of the person's own, which the new ones must not use, and a file of
    # settings, which they must.
    behind.variables["ansible_ssh_args"] = (
        f"-F {config} -o ControlMaster=auto -o ControlPersist=60 -o ControlPath={fleet.folder}/%C"
    )
    words = ["apply", "--yes", "--limit", "behind", "--confirm-timeout", "30s"]
    code, said, output = fleet.remedy(*words)
    assert (code, said["behind"]["state"]) == (0, "confirmed"), output
    accepted = said_by_sshd(behind)
    assert accepted.count("Accepted publickey") >= 4, accepted
    assert all(jump.address in line for line in accepted.splitlines() if "Accepted" in line)
    code, said, output = fleet.remedy("rollback", "--yes", "--limit", "behind")
    assert (code, said["behind"]["state"]) == (0, "reverted"), output


def said_by_sshd(host: LightHost) -> str:
    """Return what the host's sshd has printed by now."""
    stream = host.processes[0].stdout
    assert stream is not None
    text = b""
    while select.select([stream], [], [], 0)[0]:
        part = os.read(stream.fileno(), 65536)
        if not part:
            break
        text += part
    return text.decode()


KINDS = {"ini": "hosts", "yaml": "hosts.yml", "script": "hosts.sh", "folder": "hosts.d"}
"""Of inventories, with the path of each below a folder of its own."""


def test_inventories_of_every_kind_mean_the_same(fleet: Fleet) -> None:
    """INI, YAML, script, folder: groups, their policies, parameters, and files of variables.

    All of them in one run: each has names of its own for the same three hosts.
    """
    for name in ("one", "two", "three"):
        fleet.host(name)
    common = json.loads(Path(fleet.inventory()).read_text())["all"]["vars"]
    for kind in KINDS:
        folder = fleet.folder / f"as-{kind}"
        for group in ("all", f"{kind}_edge", f"{kind}_deep"):
            (folder / "group_vars" / group).mkdir(parents=True)
        (folder / "host_vars").mkdir()
        (folder / "group_vars/all/main.yml").write_text(json.dumps(common))
        (folder / f"group_vars/{kind}_edge/remedy.yml").write_text(
            "remedy_policy: [observe-only]\n"
        )
        (folder / f"group_vars/{kind}_deep/remedy.yml").write_text(
            "remedy_policy: own.yaml\n"
            "remedy_params: {conntrack-pressure: {threshold_percent: 81}}\n"
        )
        (folder / "own.yaml").write_text(OWN)
        (folder / "own.yaml").chmod(0o600)
        (folder / f"host_vars/{kind}-three.json").write_text('{"remedy_message": "three alone"}')
        address = {f"{kind}-{host.name}": host.address for host in fleet.hosts.values()}
        write_inventory(folder, kind, address)

    sources = [w for kind, path in KINDS.items() for w in ("-i", f"as-{kind}/{path}")]
    code, out, err = fleet.call("remedy", "fleet", "plan", *sources, "--json", "-o", "plans")
    assert code == 0, out + err
    groups = json.loads(out.splitlines()[-1])["groups"]
    assert [(group["summary"], set(group["hosts"])) for group in groups] == [
        (summary, {f"{kind}-{name}" for kind in KINDS})
        for summary, name in (
            (["+ nft:inet/remedy_invalid_drop"], "three"),
            (["nf_conntrack_tcp_be_liberal 0 -> 1"], "two"),
            ([], "one"),
        )
    ]
    index = json.loads((fleet.folder / "plans/index.json").read_text())["hosts"]
    for kind in KINDS:
        compiled = (fleet.folder / "plans" / index[f"{kind}-two"]["policy"]).read_text()
        assert '"threshold_percent":81' in compiled.replace(" ", "")


def write_inventory(folder: Path, kind: str, address: dict[str, str]) -> None:
    """Write an inventory of the kind: the first host is in the group "edge", the second in "deep".

    The files that are beside a file lie in the folder itself, where that is the inventory.
    """
    edge, deep = f"{kind}_edge", f"{kind}_deep"
    one, two, _ = address
    ini = "".join(f"{name} ansible_host={address[name]}\n" for name in address)
    listed = {name: {"ansible_host": address[name]} for name in address}
    groups: dict[str, Any] = {edge: {"hosts": {one: {}}}, deep: {"hosts": {two: {}}}}
    path = folder / KINDS[kind]
    if kind == "ini":
        path.write_text(f"{ini}[{edge}]\n{one}\n[{deep}]\n{two}\n")
    elif kind == "yaml":
        path.write_text(json.dumps({"all": {"hosts": listed, "children": groups}}))
    elif kind == "script":
        flat = {"_meta": {"hostvars": listed}, "all": list(address), edge: [one], deep: [two]}
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(flat)}\nEND\n")
        path.chmod(0o755)
    else:
        path.mkdir()
        (path / "1-hosts").write_text(ini)  # ansible-core before 2.19 leaves .ini out
        (path / "2.yml").write_text(json.dumps(groups))
        for name in ("group_vars", "host_vars", "own.yaml"):
            (folder / name).rename(path / name)


OWN = """\
apiVersion: remedy/v1
name: own
extends: default
rules:
  tcp-invalid-reset: {mode: fix, from: exposed, fixes: [tcp-be-liberal]}
"""


def test_a_terminal_shows_each_host_as_it_comes(fleet: Fleet) -> None:
    fleet.host("one")
    fleet.host("absent", sshd=False)
    argv = [f"{BIN}/remedy", "fleet", "scan", "-i", fleet.inventory()]
    for colour, marks in (("", b"[1/2] "), ("1", b"\x1b[")):
        with_colour = {"FORCE_COLOR": "1"} if colour else {"NO_COLOR": "1"}
        shown = on_terminal(fleet, argv, with_colour)
        assert marks in shown, shown
        assert b"absent" in shown
        assert b"unreachable (exit 9)" in shown
        assert b"Traceback" not in shown


def on_terminal(fleet: Fleet, argv: list[str], more: dict[str, str]) -> bytes:
    """Return all that a program of the controller writes to its terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    shown = b""
    with subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{fleet.netns}", *argv],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=fleet.folder, start_new_session=True,
        env={**fleet.environment(), "TERM": "xterm-256color", **more},
    ):  # fmt: skip
        os.close(theirs)
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # EIO: nobody has the other side open any more
                break
            shown += part
    os.close(ours)
    return shown


def test_json_lines_come_while_it_runs(fleet: Fleet) -> None:
    """A host's line is there before a slower host has been done."""
    fleet.host("a-fast")
    slow = fleet.host("b-slow")
    gate = slow.folder / "gate"
    os.mkfifo(gate)
    program = slow.folder / "bin" / "python3"
    program.write_text(f'#!/bin/sh\nread go <{gate}\nexec /usr/bin/python3 "$@"\n')
    program.chmod(0o755)
    slow.variables["ansible_python_interpreter"] = str(program)
    argv = ["fleet", "scan", "-i", fleet.inventory(), "--json", "--forks", "2"]
    with fleet.start("remedy", *argv) as process:
        in_time = threading.Timer(60, process.kill)
        in_time.start()
        assert process.stdout is not None
        head, first = (json.loads(process.stdout.readline() or "{}") for _ in range(2))
        in_time.cancel()
        assert (head["kind"], head["hosts"]) == ("fleet-scan", 2)
        assert (first["kind"], first["host"]) == ("host", "a-fast")
        assert process.poll() is None
        # Each start of Python there takes one word. Held open for both sides it never breaks.
        opened = os.open(gate, os.O_RDWR)
        os.write(opened, b"go\n" * 100)
        rest, _ = process.communicate(timeout=120)
        os.close(opened)
    kinds = [json.loads(line)["kind"] for line in rest.splitlines()]
    assert kinds == ["host", "summary"]
