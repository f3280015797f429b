"""Hosts that cannot do what is asked: one clear line each, and the others go on."""

from __future__ import annotations

from pathlib import Path

import drop_first
from debian import root_folder
from fleet_host import LightHost
from light_fleet import BIN, Fleet

STAND_IN = """#!/usr/bin/python3 -IS
import sys
text, sys.argv = sys.argv[4], sys.argv[3:4] + sys.argv[5:]
{before}
exec(compile(text, "start", "exec"))
"""


def interpreter(host: LightHost, text: str) -> None:
    """Give a host another Python."""
    path = host.folder / "bin" / "python3"
    path.write_text(text)
    path.chmod(0o755)
    host.variables["ansible_python_interpreter"] = str(path)


def test_each_bad_host_gets_its_line_and_the_good_one_its_fix(fleet: Fleet) -> None:
    good = fleet.host("good", tool=False)
    fleet.host("no-python", ansible_python_interpreter="/usr/bin/python4")
    interpreter(fleet.host("old"), STAND_IN.format(before="sys.version_info = (3, 6, 9)"))
    fleet.host("minimal", minimal=root_folder("bookworm"))
    interpreter(fleet.host("garbage"), "#!/bin/sh\nprintf '\\033[31mhe\\000llo {}\\n'\n")
    noisy = fleet.host("noisy", tool=False)
    interpreter(noisy, '#!/bin/sh\necho "Welcome {"\nexec /usr/bin/python3 "$@"\n')
    full = fleet.host("full")
    full.on("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", "/var/lib/remedy")
    fleet.host("policy", remedy_policy="nosuch")
    params = {"tcp-invalid-reset": {"nosuch": 1}}
    fleet.host("params", remedy_policy=drop_first.YAML, remedy_params=params)
    odd = fleet.host("odd-settings")
    settings(odd, "policy: &own docker-host\n")
    own = fleet.host("settings")
    settings(
        own, "# ours\n[remedy]\nstate-dir = /var/lib/remedy/own\nlock-timeout = 20s\nnetns =\n"
    )
    other = fleet.host("other-key")
    known = fleet.folder / "known_hosts"
    lines = known.read_text().splitlines()
    keys = [line.split(" ", 1)[1] for line in lines]
    known.write_text("\n".join([*lines[:-1], f"{other.address} {keys[0]}", ""]))

    code, said, output = fleet.remedy("apply", "--yes", "--undo", "none", "--forks", "10")
    told = {name: (word["state"], word["rc"]) for name, word in said.items()}
    assert told == {
        "good": ("confirmed", 0),
        "noisy": ("confirmed", 0),
        "settings": ("confirmed", 0),
        "no-python": ("untouched", 127),
        "old": ("untouched", 1),
        "minimal": ("untouched", 1),
        "garbage": ("untouched", 1),
        "full": ("untouched", 1),
        "odd-settings": ("untouched", 78),
        "policy": ("untouched", 78),
        "params": ("untouched", 78),
        "other-key": ("unreachable", 9),
    }, output
    for name, words in {
        "no-python": "install python3, or set ansible_python_interpreter",
        "old": "is Python 3.6, and remedy needs 3.9 or newer",
        "minimal": "of /usr/bin/python3 is not complete (no ",
        "garbage": "the host answers '\\\\x1b[31mhe\\\\x00llo {}'",
        "full": "No space left on device",
        "odd-settings": "remedy.conf: not INI: File contains no section headers",
        "policy": "nosuch: neither a shipped policy nor a file",
        "params": "remedy_params",
        "other-key": "Host key verification failed",
    }.items():
        assert words in said[name]["message"], said[name]["message"]
        assert "\n" not in said[name]["message"]
    assert code == 1, output
    assert good.has_table()
    assert noisy.has_table()
    assert own.on("ls", "/var/lib/remedy/own") != ""


def settings(host: LightHost, text: str) -> None:
    """Give a host a configuration file of its own."""
    path = host.folder / "remedy.conf"
    path.write_text(text)
    host.on("mkdir", "-p", "/etc/remedy")
    host.on("install", "-m", "644", str(path), "/etc/remedy/remedy.conf")


def test_an_inventory_that_names_no_host_is_told_of(fleet: Fleet) -> None:
    fleet.host("one", sshd=False)
    (fleet.folder / "empty.ini").write_text("\n")
    for words, said in (
        (["-i", "nosuch.ini"], "nosuch.ini: no such inventory"),
        (["-i", "empty.ini"], "empty.ini: no hosts in it"),
        (["-i", fleet.inventory(), "--limit", "nosuch"], "no host matches 'nosuch'"),
    ):
        code, out, err = fleet.call("remedy", "fleet", "plan", "-o", "plans", *words)
        assert (code, out) == (65, "")
        assert said in err
        assert err.count("\n") == 1
        assert not (fleet.folder / "plans").exists()


def test_the_run_of_a_plain_inventory_script_and_groups(fleet: Fleet) -> None:
    one, two = fleet.host("one"), fleet.host("two")
    path = Path(fleet.inventory(remedy_policy=None))
    script = fleet.folder / "inventory.sh"
    script.write_text(f'#!/bin/sh\n[ "$1" = --list ] && {BIN}/ansible-inventory -i {path} --list\n')
    script.chmod(0o755)
    (fleet.folder / "groups.ini").write_text(
        "[edge]\none\n[edge:vars]\nremedy_policy=observe-only\n"
    )
    argv = ["fleet", "plan", "-i", str(script), "-i", "groups.ini"]
    code, out, err = fleet.call("remedy", *argv)
    assert code == 0, out + err
    assert out.startswith(
        "1 host: two\n  ~ sysctl:net.netfilter.nf_conntrack_tcp_be_liberal  "
        "by tcp-be-liberal; risk low\n"
    ), out
    assert "1 host: one\n  nothing to change\n" in out
    assert not one.has_table()
    assert not two.has_table()
