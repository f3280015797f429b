"""What people see of every verb: streams, prompts, colour, progress, and the end by a signal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Union

import pytest
from cli_host import Cli, Q
from waiting import eventually

# --- streams, prompts, colour -------------------------------------------------------------------


def test_the_result_is_on_stdout_and_all_else_on_stderr(cli: Cli) -> None:
    applied = cli("apply", "--yes", "--confirm-timeout", "60s", "--json", *Q)
    assert json.loads(applied.stdout)["outcome"] == "applied"
    warned = cli("scan", "--json", *Q)
    assert json.loads(warned.stdout)["kind"] == "scan"
    assert "waits for 'remedy confirm'" in warned.stderr
    failed = cli("scan", "--json", "--window", "soon")
    error = json.loads(failed.stdout)
    assert (error["kind"], error["code"]) == ("error", failed.returncode)
    assert failed.stderr == f"remedy: {error['message']}; {error['hint']}\n"
    assert cli("rollback", "--yes", "-q").stderr == ""


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)])
def test_streams_that_the_caller_has_closed(cli: Cli, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    asked = cli("apply", *Q, preexec_fn=close)
    assert asked.returncode == 64, "nobody can be asked"
    done = cli("apply", "--yes", "--confirm-timeout", "60s", *Q, preexec_fn=close)
    assert done.returncode == 0
    assert cli.json("status")["pending_confirm"] is not None, "its guard watches"
    assert cli("rollback", "--yes", preexec_fn=close).returncode == 0
    assert not cli.in_force()


def test_off_a_terminal_nothing_prompts(cli: Cli) -> None:
    for words in (["apply", *Q], ["apply", "--no-input", *Q]):
        done = cli(*words)
        assert (done.returncode, done.stderr) == (
            64,
            "remedy: this changes the host and there is no terminal to ask on; add --yes\n",
        )
    assert not cli.in_force()
    assert cli("apply", "--yes", *Q).returncode == 0
    assert cli("rollback").returncode == 64
    assert cli("rollback", "--dry-run").returncode == 0
    assert cli.in_force()


def on_a_terminal(
    cli: Cli, *words: str, answer: Union[str, signal.Signals] = "", **environment: str
) -> tuple[int, str]:
    """Run a command line on a terminal; return exit code and what the terminal shows.

    The first question is met with ``answer``: a line, or a signal.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "remedies", *cli.options, *words],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**cli.environment, **environment},
    )  # fmt: skip
    os.close(theirs)
    shown, asked = "", False
    try:
        while select.select([ours], [], [], 60)[0]:
            try:
                part = os.read(ours, 4096)
            except OSError:  # EIO: the last program has let the terminal go
                break
            shown += part.decode(errors="replace")
            if "[y/N]" in shown and not asked:
                asked = True
                if isinstance(answer, str):
                    os.write(ours, f"{answer}\n".encode())
                else:
                    process.send_signal(answer)
        return process.wait(timeout=60), shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_on_a_terminal_one_is_asked(cli: Cli) -> None:
    code, shown = on_a_terminal(cli, "apply", *Q, answer="n")
    assert (code, "Apply these changes? [y/N]" in shown) == (1, True)
    assert not cli.in_force()
    assert on_a_terminal(cli, "apply", *Q, answer="y")[0] == 0
    assert cli.in_force()
    assert on_a_terminal(cli, "apply", "--no-input", *Q)[0] == 0, "nothing to ask"
    assert on_a_terminal(cli, "rollback", "--no-input")[0] == 64


def test_colour_on_a_terminal_alone(cli: Cli) -> None:
    def coloured(*words: str, **environment: str) -> bool:
        shown = on_a_terminal(cli, "scan", *Q, *words, **environment)[1]
        return bool(re.search(r"\x1b\[[\d;]*m", shown))  # what takes a second is told, and erased

    assert coloured()
    assert not coloured("--no-color")
    assert not coloured("--plain")
    assert not coloured(NO_COLOR="1")
    assert not coloured(TERM="dumb")
    assert not coloured(NO_COLOR="1", FORCE_COLOR="1")
    assert "\x1b[" not in cli("scan", *Q).stdout
    forced = cli("plan", *Q, env={"FORCE_COLOR": "1"})
    assert "\x1b[" in forced.stdout
    assert "+ " in re.sub(r"\x1b\[\d+m", "", forced.stdout)
    assert "\x1b[" not in cli("scan", "--json", *Q, env={"FORCE_COLOR": "1"}).stdout


def test_progress_on_a_terminal_after_a_second(cli: Cli) -> None:
    words = ("scan", "--window", "1500ms")
    assert "watching for 1.5 s" in on_a_terminal(cli, *words)[1]
    assert "watching" not in on_a_terminal(cli, *words, "--plain")[1]
    assert "watching" not in on_a_terminal(cli, "scan", *Q)[1]
    assert cli(*words).stderr == ""


def test_no_verb_on_a_terminal_is_a_first_look(cli: Cli) -> None:
    code, shown = on_a_terminal(cli, NO_COLOR="1")
    assert code == 0
    assert re.search(r"^faults    .*exposed: .*tcp-invalid-reset", shown, re.M)
    assert "none in force" in shown
    assert "Next: 'remedy scan --netns" in shown
    assert cli("apply", "--yes", *Q).returncode == 0
    code, shown = on_a_terminal(cli, NO_COLOR="1")
    assert (code, "in force: invalid-drop" in shown) == (0, True), shown
    assert not re.search("exposed: .*tcp-invalid-reset", shown)
    off = cli()
    assert (off.returncode, "no verb given" in off.stderr) == (64, True)


@pytest.mark.parametrize(
    ("words", "following"),
    [
        (["scan", *Q], "remedy plan"),
        (["plan", *Q], "remedy apply"),
        (["apply", "--yes", *Q], "remedy status"),
        (["apply", "-n", *Q], "remedy apply"),
        (["list"], "remedy explain"),
        (["explain", "notrack"], "remedy plan"),
        (["doctor"], "remedy scan"),
    ],
)
def test_each_verb_ends_with_the_next_command(cli: Cli, words: list[str], following: str) -> None:
    last = cli(*words).stdout.rstrip().splitlines()[-1]
    assert last.startswith("Next: ")
    assert following in last
    assert "Next:" not in cli(*words, "-q").stdout


def test_the_next_command_is_about_the_same_host_and_policy(cli: Cli, tmp_path: Path) -> None:
    policy, plan = str(tmp_path / "policy.yaml"), str(tmp_path / "plan.json")
    Path(policy).write_text("apiVersion: remedy/v1\nname: other\nextends: default\n")
    last = cli("plan", *Q, "--policy", policy, "-o", plan).stdout.rstrip().splitlines()[-1]
    words = shlex.split(last.removeprefix("Next: ").removesuffix("."))
    assert shlex.split(words[0])[:3] == ["remedy", "apply", plan]
    assert shlex.split(words[0])[3:] == ["--policy", policy, *cli.options]
    in_environment = {"REMEDY_POLICY": policy}
    last = cli("plan", *Q, env=in_environment).stdout.rstrip().splitlines()[-1]
    assert "--policy" not in last


def test_rollback_and_confirm_end_with_the_next_command(cli: Cli) -> None:
    assert cli("apply", "--yes", "--confirm-timeout", "60s", *Q).returncode == 0
    assert "Next: 'remedy status --netns" in cli("confirm").stdout
    assert "Next: 'remedy scan --netns" in cli("rollback", "--yes").stdout


def test_times_are_local_in_text_and_utc_in_json(cli: Cli) -> None:
    assert re.search(r" \d\d:\d\d:\d\d \+05; policy ", cli("scan", *Q).stdout)
    cli.json("scan", *Q)


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_point_leaves_nothing(cli: Cli, number: signal.Signals) -> None:
    whole = cli("apply", "--yes", *Q, point="def point(name):\n    print(name, file=sys.stderr)\n")
    points = whole.stderr.splitlines()
    assert points[0] == "before begin"
    assert cli("rollback", "--yes").returncode == 0
    for name in points:
        at = f"def point(name):\n    if name == {name!r}:\n        os.kill(writer, {int(number)})\n"
        done = cli("apply", "--yes", *Q, point=at)
        assert done.returncode == 128 + number, (name, done.stderr)
        eventually(lambda: not list(cli.folder.glob("state/*/guard-*")), 10, "a guard is left")
        status = cli.json("status")
        assert status["unfinished"] == []
        said = {"before begin": "nothing was changed", "after begin": "is being ended by its guard"}
        assert said.get(name, "was undone: the host is as before") in done.stderr, name
        assert (status["in_force"], cli.in_force()) == ([], False), name


def test_a_signal_while_somebody_is_asked(cli: Cli) -> None:
    shown = on_a_terminal(cli, "apply", *Q, answer=signal.SIGINT)
    assert (shown[0], "nothing was changed" in shown[1]) == (130, True)
    shown = on_a_terminal(
        cli, "apply", "--yes", "--confirm-timeout", "60s", *Q, answer=signal.SIGINT
    )
    assert shown[0] == 130
    assert "is undone at" in shown[1]
    assert cli.in_force(), "its guard waits"
    assert cli("rollback", "--yes").returncode == 0


def test_nohup_holds(cli: Cli) -> None:
    hang_up = "def point(name):\n    os.kill(writer, signal.SIGHUP)\n"

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    assert cli("apply", "--yes", *Q, point=hang_up).returncode == 128 + signal.SIGHUP
    assert not cli.in_force()
    assert cli("apply", "--yes", *Q, point=hang_up, preexec_fn=ignore).returncode == 0
    assert cli.in_force()
