"""Hosts that cannot do what is asked: one clear line each, and the others go on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from light_fleet import BIN, Fleet, LightHost, fleet

__all__ = ["fleet"]

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
    good = fleet.host("good")
    fleet.host("no-python", ansible_python_interpreter="/usr/bin/python4")
    interpreter(fleet.host("old"), STAND_IN.format(before="sys.version_info = (3, 6, 9)"))
    interpreter(fleet.host("minimal"), STAND_IN.format(before="sys.modules['ctypes'] = None"))
    interpreter(fleet.host("garbage"), "#!/bin/sh\nprintf '\\033[31mhe\\000llo {}\\n'\n")
    noisy = fleet.host("noisy")
    interpreter(noisy, '#!/bin/sh\necho "Welcome {"\nexec /usr/bin/python3 "$@"\n')
    full = fleet.host("full")
    full.on("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", "/var/lib/remedy")
    fleet.host("policy", remedy_policy="nosuch")
    fleet.host("params", remedy_params={"tcp-invalid-reset": {"nosuch": 1}})
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
        "no-python": ("untouched", 127),
        "old": ("untouched", 1),
        "minimal": ("untouched", 1),
        "garbage": ("untouched", 1),
        "full": ("untouched", 1),
        "policy": ("untouched", 78),
        "params": ("untouched", 78),
        "other-key": ("unreachable", 9),
    }, output
    for name, words in {
        "no-python": "install python3, or set ansible_python_interpreter",
        "old": "is Python 3.6, and remedy needs 3.9 or newer",
        "minimal": "not complete (no ctypes)",
        "garbage": "the host answers '\\\\x1b[31mhe\\\\x00llo {}'",
        "full": "No space left on device",
        "policy": "nosuch: neither a shipped policy nor a file",
        "params": "remedy_params",
        "other-key": "Host key verification failed",
    }.items():
        assert words in said[name]["message"], said[name]["message"]
        assert "\n" not in said[name]["message"]
    assert code == 1, output
    assert good.has_table()
    assert noisy.has_table()


def test_an_inventory_that_names_no_host_is_told_of(fleet: Fleet) -> None:
    fleet.host("one", sshd=False)
    (fleet.folder / "empty.ini").write_text("\n")
    for words, said in (
        (["-i", "nosuch.ini"], "nosuch.ini: no such inventory"),
        (["-i", "empty.ini"], "empty.ini: no hosts in it"),
        (["-i", fleet.inventory(), "--limit", "nosuch"], "no host matches 'nosuch'"),
    ):
        code, out, err = fleet.call("remedy", "fleet", "plan", *words)
        assert (code, out) == (65, "")
        assert said in err
        assert err.count("\n") == 1


def test_a_vaulted_variable_is_in_no_output(fleet: Fleet) -> None:
    secret = "correct-horse-battery"
    fleet.host("one")
    fleet.inventory()
    (fleet.folder / "vault").write_text("staple\n")
    vault = ("--vault-password-file", "vault")
    _, vaulted, _ = fleet.call("ansible-vault", "encrypt_string", *vault, secret, "--name", "x")
    value = vaulted.split(":", 1)[1]
    group = fleet.folder / "group_vars"
    group.mkdir()
    text = f"ansible_become_password:{value}\nremedy_message:{value}\n"
    (group / "all.yml").write_text(text)
    words = ["--ansible", " ".join(vault)]
    code, said, output = fleet.remedy("plan", "-o", "plans", *words)
    assert (code, said["one"]["rc"]) == (0, 0), output
    code, said, output = fleet.remedy("apply", "--yes", "--run-dir", "runs", *words)
    assert code == 78, output
    assert "vaulted" in said["one"]["message"]
    (group / "all.yml").write_text(f"ansible_become_password:{value}\n")
    code, said, more = fleet.remedy("apply", "--yes", "--run-dir", "runs", *words)
    assert (code, said["one"]["state"]) == (0, "confirmed"), more
    assert secret not in output + more
    places = [fleet.folder / name for name in ("plans", "runs")]
    found = subprocess.run(["grep", "-rl", secret, *places], capture_output=True, check=False)
    assert found.stdout == b""


def test_the_run_of_a_plain_inventory_script_and_groups(fleet: Fleet) -> None:
    one, two = fleet.host("one"), fleet.host("two")
    path = Path(fleet.inventory())
    script = fleet.folder / "inventory.sh"
    script.write_text(f'#!/bin/sh\n[ "$1" = --list ] && {BIN}/ansible-inventory -i {path} --list\n')
    script.chmod(0o755)
    (fleet.folder / "groups.ini").write_text(
        "[edge]\none\n[edge:vars]\nremedy_policy=observe-only\n"
    )
    argv = ["fleet", "plan", "-i", str(script), "-i", "groups.ini"]
    code, out, err = fleet.call("remedy", *argv)
    assert code == 0, out + err
    assert out.startswith("1 host: two\n  + nft:inet/remedy_invalid_drop\n"), out
    assert "1 host: one\n  nothing to change\n" in out
    assert not one.has_table()
    assert not two.has_table()
