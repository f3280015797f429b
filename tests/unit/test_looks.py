"""How often a trace looks: by what its looks cost, not by how busy the machine is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from remedies.tap import allowance
from remedies.tap.allowance import spent
from remedies.trace import looks


class Machine:
    """A clock, and a processor's time that looks use up."""

    def __init__(self) -> None:
        self.now = self.used = 0.0

    def look(self, cost: float, waits: float = 0.0) -> str:
        self.used += cost
        self.now += cost + waits
        return "seen"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr("time.monotonic", lambda: made.now)
    monkeypatch.setattr(allowance, "spent", lambda: made.used)
    return made


def test_costly_looks_take_a_twentieth_of_a_processor(machine: Machine) -> None:
    looked = looks.Looks()
    assert looked.take("rules", lambda: machine.look(cost=0.5)) == "seen"
    assert looked.take("rules", lambda: machine.look(cost=0.1)) is None
    machine.now = 10.0
    assert looked.take("rules", lambda: machine.look(cost=0.1)) == "seen"


def test_waiting_for_a_processor_costs_no_look(machine: Machine) -> None:
    looked = looks.Looks()
    for _ in range(5):
        assert looked.take("rules", lambda: machine.look(cost=0.01, waits=2.0)) == "seen"


def test_what_a_child_has_used_counts() -> None:
    before = spent()
    work = "import time\nwhile time.process_time() < 0.1: pass"
    subprocess.run([sys.executable, "-I", "-c", work], timeout=60, check=True)
    assert spent() - before >= 0.1
