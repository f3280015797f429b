"""Tasks of a playbook, as plain data: what a driver's part in one is made of. Pure.

A resource becomes looking and, where it is not so yet, doing: a second run changes nothing. Text
that somebody on a host has chosen is a :class:`Text` or in :class:`Texts`; names of tasks and
conditions are the same whatever it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

Task = dict[str, Any]


class Text(str):
    """Text of a plan, as one argument of a module.

    ansible-core 2.19 takes a scalar with the tag for what it would be without quotes (a number,
    null): a text that YAML reads so cannot be written.
    """


class Texts(list[str]):
    """Texts of a plan: words of a command, or what a condition compares with. Always texts."""


def said(name: str, message: str) -> Task:
    """Return a task that prints a message."""
    return {"name": name, "ansible.builtin.debug": {"msg": Text(message)}}


def looked(
    name: str,
    argv: Sequence[str],
    fine: Optional[tuple[int, ...]] = (0, 1),
    *,
    stdin: Optional[str] = None,
    register: str = "looked",
) -> Task:
    """Return a task that only reads; ``fine``: exit codes that answer it, None takes any."""
    return {
        "name": name,
        "ansible.builtin.command": _command(argv, stdin),
        "register": register,
        "check_mode": False,
        "changed_when": False,
        "failed_when": False if fine is None else f"looked.rc not in {list(fine)}",
    }


def printed(command: str, names: Sequence[str], stdin: str) -> Task:
    """Return the task that lets a program of the host print what it reads from ``stdin``.

    A table or chain that is there is compared with what this host's own program prints of ours
    once an empty network namespace holds it: versions print one rule differently.
    """
    argv = ["unshare", "--net", "sh", "-c", command, "sh", *names]
    return looked("See how it is printed here", argv, None, stdin=stdin, register="printed")


def done(
    name: str, argv: Sequence[str], when: str, *, stdin: Optional[str] = None, **values: str
) -> Task:
    """Return a task that changes something; ``when`` finds each of ``values`` in a list."""
    task = {"name": name, "ansible.builtin.command": _command(argv, stdin), "when": when}
    lists = {key: Texts([value]) for key, value in values.items()}
    return {**task, **({"vars": lists} if lists else {}), "changed_when": True}


def _command(argv: Sequence[str], stdin: Optional[str]) -> dict[str, object]:
    return {"argv": Texts(argv), **({} if stdin is None else {"stdin": Text(stdin)})}
