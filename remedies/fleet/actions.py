"""The actions of ``remedy fleet``, in one table: the command line, Ansible and the tests read it.

To add an action: its row here, what it does on a host (:mod:`remedies.fleet.tasks`), its playbook
``playbooks/NAME.yml``, and README.md's text. Options of its own go to ``cli/fleet.py``.
"""

from __future__ import annotations

from remedies.values import dataclass

JOURNALED = {
    "change_id": "the change ticket",
    "message": "why",
    "approved_by": "who approved it",
}
"""What a host's journal takes from outside, and what each is."""


@dataclass(frozen=True)
class FleetAction:
    """One action of ``remedy fleet``, and what goes with it."""

    help: str
    fine: tuple[int, ...] = (0,)
    """Exit codes that say something about a host, and not that the action has failed."""
    watches: bool = True
    """It runs the detectors: it takes ``--window``."""
    finds: bool = False
    """It is shown as findings with their hosts, not as states of hosts."""
    question: str = ""
    """What is asked before it writes, with the number of hosts; empty: it writes nothing."""
    journaled: bool = False
    """It begins transactions: hosts' journals take :data:`JOURNALED`."""
    dry: bool = False
    """In check mode, what it tells of are changes that it would make."""

    @property
    def writes(self) -> bool:
        """Tell whether it changes hosts, and so needs a consent and has a dry run."""
        return bool(self.question)


ACTIONS = {
    "scan": FleetAction("detect faults on every host", fine=(0, 2), finds=True),
    "plan": FleetAction(
        "show what would change, hosts with the same change together; may save the plans",
        fine=(0, 8),
        dry=True,
    ),
    "apply": FleetAction(
        "apply in batches; every host keeps the change only if a new connection to it works and "
        "its fault is gone",
        question="Apply to {} hosts",
        journaled=True,
        dry=True,
    ),
    "confirm": FleetAction(
        "confirm on every host",
        watches=False,
        question="Confirm on {} hosts?",
    ),
    "rollback": FleetAction(
        "undo on every host",
        watches=False,
        question="Undo on {} hosts?",
        journaled=True,
        dry=True,
    ),
    "report": FleetAction(
        "show what is in force, drift, and faults that are still there",
        fine=(0, 2),
        finds=True,
    ),
}
