"""What comes out of a vault reaches SSH and nothing else, whichever way it was encrypted."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from fleet_host import LightHost
from light_fleet import BIN, Fleet

VAULT = ("--vault-password-file", "vault")
IN_FILE = "correct-horse-battery"
INLINE = "staple#of&the+month"
TRACE = ("/usr/bin/strace", "-f", "-qq", "-v", "-e", "trace=execve", "-s", "100000",
         "-o", "executed")  # fmt: skip
"""Writes down every program that is started, with all its arguments and its environment."""


def encrypted(fleet: Fleet, name: str, value: str) -> str:
    """Return ``name: value`` with the value alone encrypted."""
    code, text, err = fleet.call("ansible-vault", "encrypt_string", *VAULT, value, "--name", name)
    assert code == 0, err
    return text


def vaulted_files(fleet: Fleet, texts: Mapping[str, str]) -> None:
    """Write files of variables that are encrypted as a whole."""
    for path, text in texts.items():
        plain_file(fleet, path, text)
    code, _, err = fleet.call("ansible-vault", "encrypt", *VAULT, *texts)
    assert code == 0, err
    for path in texts:
        assert (fleet.folder / path).read_text().startswith("$ANSIBLE_VAULT;")


def plain_file(fleet: Fleet, path: str, text: str) -> None:
    place = fleet.folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def assert_nowhere(fleet: Fleet, texts: Iterable[str], hosts: Iterable[LightHost]) -> None:
    """Look for both secrets in texts, in all that was kept here, and in all that hosts keep."""
    for secret in (IN_FILE, INLINE):
        for text in texts:
            assert secret not in text
        argv = ["grep", "-rlaF", "--exclude-dir=layers", secret, str(fleet.folder)]
        found = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        assert found == ""
        for host in hosts:
            kept = host.on("sh", "-c", f"grep -rlaF '{secret}' /var/lib/remedy /var/log /tmp /run "
                           "/root /home 2>/dev/null || true")  # fmt: skip
            assert kept == ""


def test_passwords_out_of_a_vault_are_used_and_never_seen(fleet: Fleet) -> None:
    (fleet.folder / "vault").write_text("staple\n")
    sudo = fleet.whole("sudo", "bullseye", ansible_user="operator")
    sudo.user("operator", IN_FILE)
    sudo.on("usermod", "--append", "--groups", "sudo", "operator")
    su = fleet.whole("su", "trixie", ansible_user="operator", ansible_become_method="su")
    su.user("operator", "another")
    su.on("chpasswd", stdin=f"root:{INLINE}\n")
    before = sudo.ruleset()
    vaulted_files(fleet, {"group_vars/all/vault.yml": f"vault_sudo: {IN_FILE}\n"})
    plain_file(fleet, "host_vars/sudo.yml", 'ansible_become_password: "{{ vault_sudo }}"\n')
    plain_file(fleet, "host_vars/su.yml", encrypted(fleet, "ansible_become_password", INLINE))

    said = []
    inventory = ["-i", fleet.inventory(), "--ansible", " ".join(VAULT)]
    for words in (
        ["plan", "-o", "plans"],
        ["apply", "--yes", "--run-dir", "runs", "--forks", "3"],
        ["report", "-o", "html:report.html", "-o", "json:report.json"],
        ["rollback", "--yes", "--every"],
    ):
        program = [*TRACE, f"{BIN}/remedy"] if words[0] == "apply" else ["remedy"]
        code, out, err = fleet.call(*program, "fleet", *words, *inventory, "--json")
        assert code == 0, out + err
        rows = [json.loads(line) for line in out.splitlines()]
        told = {row["host"]: row["rc"] for row in rows if row["kind"] == "host"}
        assert told == ({} if words[0] == "report" else {"sudo": 0, "su": 0}), out
        said += [out, err]
    assert '"state":"confirmed"' in said[2]
    assert sudo.ruleset() == before
    traced = (fleet.folder / "executed").read_text(errors="replace")
    assert re.search(r'ansible-playbook", .*"--forks", "3"', traced)
    assert "/usr/bin/ssh" in traced
    assert "remedy_invalid_drop" in (fleet.folder / "report.json").read_text()
    assert_nowhere(fleet, said, (sudo, su))


def test_a_variable_out_of_a_vault_is_refused_where_it_would_be_written(fleet: Fleet) -> None:
    (fleet.folder / "vault").write_text("staple\n")
    hosts = [fleet.host(name) for name in ("direct", "inline", "templated", "joined", "params")]
    text = f"remedy_params: {{tcp-invalid-reset: {{nosuch: {IN_FILE}}}}}\n"
    vaulted_files(fleet, {
        "group_vars/all/vault.yml": f"vault_token: {IN_FILE}\n",
        "host_vars/direct/vault.yml": f"remedy_message: {IN_FILE}\n",
        "host_vars/params/vault.yml": text,
    })  # fmt: skip
    inline = encrypted(fleet, "inline_token", INLINE)
    plain_file(fleet, "group_vars/all/inline.yml", inline)
    plain_file(fleet, "host_vars/inline.yml", inline.replace("inline_token", "remedy_change_id"))
    plain_file(fleet, "host_vars/templated.yml", 'remedy_message: "for {{ vault_token }}"\n')
    plain_file(fleet, "host_vars/joined.yml", 'remedy_message: "x{{ inline_token }}x"\n')
    fleet.host("free", remedy_message="for nobody")
    words = ["--run-dir", "runs", "--undo", "none", "--ansible", " ".join(VAULT)]
    code, said, output = fleet.remedy("apply", "--yes", *words)
    assert code == 78, output
    told = {name: (word["state"], word["rc"]) for name, word in said.items()}
    refused = {host.name: ("untouched", 78) for host in hosts}
    assert told == {**refused, "free": ("confirmed", 0)}, output
    for host in hosts:
        assert "holds a vaulted value" in said[host.name]["message"], output
        assert not host.has_table()
    assert_nowhere(fleet, [output], [])
    assert Path(fleet.folder, "runs").is_dir()
