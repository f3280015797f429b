"""Who approved a change, and who kept it: from the command line to the journal and the report."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_cli
import pytest

from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.world import Options, World


class Host:
    """The host of a world, and the command line that works in it."""

    def __init__(self, world: World, folder: Path) -> None:
        place = ("--netns", world.namespace("host"), "--state-dir", str(folder))
        self.place = place

    def remedy(self, *words: str, stdin: int | None = None) -> str:
        """Run a command line, in a fork where nobody answers it; return what it printed."""
        if stdin is None:
            done = forked_cli.run(*self.place, *words, env=os.environ)
        else:
            done = subprocess.run(
                [sys.executable, "-m", "remedies", *self.place, *words], stdin=stdin,
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def report(self) -> dict[str, Any]:
        """Return the record of the host."""
        (host,) = json.loads(self.remedy("report", "--window", "0", "--json"))["hosts"]
        return dict(host)

    def newest(self) -> dict[str, Any]:
        """Return the newest transaction of the record."""
        return dict(self.report()["deeds"][-1])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with World("tcp-invalid-reset", Options("nft", 4)) as world:
        tcp_invalid_reset.build(world)
        yield Host(world, tmp_path / "state")


def test_a_saved_plan_names_who_approved_and_who_kept_it(host: Host, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    host.remedy("plan", "--window", "0", "-o", str(plan))
    plan.chmod(0o600)
    ticket = ("--change-id", "CHG7", "-m", "resets at night", "--approved-by", "Bea (board 12)")
    host.remedy("apply", str(plan), "--yes", *ticket, "--confirm-timeout", "300s", "--no-wait")
    host.remedy("confirm")
    record = host.report()
    (deed,) = record["deeds"]
    assert deed["plan_id"] == json.loads(plan.read_text())["plan_id"]
    who = deed["actor"]
    assert (who["approver"], who["change_id"], who["comment"]) == (
        "Bea (board 12)", "CHG7", "resets at night",
    )  # fmt: skip
    assert who["uid"] == str(os.getuid())
    assert deed["confirmation"] == f"confirmed by {who['user']}"
    (fault,) = (j for j in record["judgements"] if j["condition"] == "tcp-invalid-reset")
    assert (fault["outcome"], fault["transaction"]) == ("fixed", deed["id"])
    assert "anchored: that head is record" in host.remedy(
        "audit", "verify", "--head", record["chain"]["head"]
    )
    host.remedy("rollback", "--yes", "--approved-by", "Cy")
    assert host.newest()["actor"]["approver"] == "Cy"


def test_who_answers_the_question_has_approved_it_and_nobody_has_with_yes(host: Host) -> None:
    terminal, line = pty.openpty()
    try:
        os.write(terminal, b"y\n")
        host.remedy("apply", "--window", "0", "--no-wait", stdin=line)
    finally:
        os.close(terminal)
        os.close(line)
    deed = host.newest()
    assert deed["actor"]["approver"] == deed["actor"]["user"]
    host.remedy("rollback", "--yes")
    assert host.newest()["actor"]["approver"] == ""
