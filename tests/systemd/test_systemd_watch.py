"""The watch as a service, by the unit that is shipped: ready, sandboxed, watched, restarted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from box import REMEDY, Box
from debian import Root
from waiting import eventually

from remedies import shipped
from remedies.model import Unattended

UNIT = Path(shipped.folder("monitoring")) / "remedy-watch.service"
# The tool lies elsewhere here, and is asked more often; all else is as shipped.
ASKED = """\
[Service]
ExecStart=
ExecStart={} --policy /etc/test-policy.json --no-input --plain watch --all-netns --listen 9720 \
--interval 300ms --window 100ms
WatchdogSec=5
RestartSec=0
"""
NAT = """\
table ip theirs {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "eth9" masquerade
    }
}
"""
DROPPED_IN = "/etc/systemd/system/remedy-watch.service.d/"
SENDER = """\
import subprocess, time
from remedies.lab.scenarios import tcp_invalid_reset as fault
from remedies.lab.world import Options, World

with World("tcp-invalid-reset", Options()) as world:
    fault.build(world)
    until = time.monotonic() + 60
    said = ""
    while "applied tcp-be-liberal" not in said and time.monotonic() < until:
        fault.transfer(world, 100_000_000)
        said = subprocess.run(LOGGED, capture_output=True, text=True, check=True).stdout
    print("lives" if fault.transfer(world, 100_000_000).alive else "dies")
"""
PATIENCE = 60.0


def awaited(box: Box, words: str, *command: str) -> str:
    """Return what a command prints, as soon as it has these words."""
    said = ""

    def has_them() -> bool:
        nonlocal said
        said = box.run(*command, code=None)
        return words in said

    try:
        eventually(has_them, PATIENCE, f"never {words!r}")
    except AssertionError as error:
        logged = box.run("journalctl", "--unit", "remedy-watch", "--no-pager", code=None)
        raise AssertionError(f"{error}:\n{said}\n{logged}") from None
    return said


def test_the_unit_as_it_is_shipped(boot: Callable[[], Box]) -> None:
    box = boot()
    box.policy()
    box.write("/etc/systemd/system/remedy-watch.service", UNIT.read_text())
    box.run("mkdir", DROPPED_IN)
    program = f"/usr/bin/{' '.join(REMEDY)}"
    box.write(f"{DROPPED_IN}test.conf", ASKED.format(program))
    box.run("systemctl", "daemon-reload")
    box.run("ip", "netns", "add", "web")
    box.run("systemctl", "start", "remedy-watch")  # returns once it has said that it is ready
    scrape = ("python3", "-c", "import urllib.request as r;"
              "print(r.urlopen('http://127.0.0.1:9720/metrics').read().decode())")  # fmt: skip
    awaited(box, "remedy_watch_ready 1", *scrape)
    state = 'remedy_condition_status{condition="tcp-invalid-reset",verdict="exposed"} '
    box.run("ip", "netns", "exec", "web", "nft", "-f", "-", stdin=NAT)
    awaited(box, state + "1", *scrape)
    said = awaited(box, "1 could happen", "systemctl", "status", "remedy-watch", "--no-pager")
    assert "2 namespaces" in said
    box.run("ip", "netns", "del", "web")
    awaited(box, state + "0", *scrape)
    logged = box.run("journalctl", "--unit", "remedy-watch", "--no-pager")
    assert "tcp-invalid-reset" in logged
    assert "the namespace has ended" in logged
    assert "ermission" not in logged, logged
    assert "not permitted" not in logged, logged
    restarts = ("systemctl", "show", "--property=NRestarts", "remedy-watch")
    before = box.run(*restarts)
    box.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", "remedy-watch")
    eventually(lambda: box.run(*restarts) != before, PATIENCE, "the watchdog saw no hang")
    awaited(box, "remedy_watch_ready 1", *scrape)
    box.run("systemctl", "stop", "remedy-watch")
    ended = box.run("systemctl", "show", "--property=Result,ExecMainStatus", "remedy-watch")
    assert ended.split() == ["Result=success", "ExecMainStatus=0"]
    applies_alone(box, program)


def applies_alone(box: Box, program: str) -> None:
    """With the drop-in that is shipped, and a policy that allows it, connections live again."""
    box.policy("tcp-be-liberal", unattended=Unattended(("tcp-invalid-reset",)))
    text = (UNIT.parent / "remedy-watch-unattended.conf").read_text()
    asked = "--unattended --policy /etc/test-policy.json --interval 300ms --window 500ms"
    text = text.replace("/usr/bin/remedy", program).replace("--unattended\n", f"{asked}\n")
    box.write(f"{DROPPED_IN}unattended.conf", text)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "start", "remedy-watch")
    logged = ("journalctl", "--unit", "remedy-watch", "--no-pager")
    lives = box.run(*REMEDY[:-2], "-c", f"LOGGED = {logged!r}\n{SENDER}")
    said = box.run(*logged)
    assert lives == "lives\n", said
    assert "applied tcp-be-liberal" in said
    box.run("systemctl", "stop", "remedy-watch")


def test_systemd_knows_every_line_of_it(debian: Root) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=60", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-600:] + done.stderr
    assert done.stderr == ""
