"""A plan and its way back as two playbooks that need Ansible's own modules and nothing of ours.

Each resource becomes looking and, where it is not so yet, doing, as its driver says (``tasks()``):
a second run changes nothing.

A plan holds text of a host: comments, names, values that somebody there has chosen. All of it is
:class:`~remedies.resources.tasks.Text` or in :class:`~remedies.resources.tasks.Texts`, tagged
``!unsafe``: data of a module or of a variable.
Everything else in a playbook, names of tasks and conditions too, is the same whatever it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from remedies import resources
from remedies.errors import InputError, RemedyError
from remedies.libraries import how_to_add
from remedies.model import Change, Plan
from remedies.resources.tasks import Task, Text, Texts

_HEAD = """\
---
# Made by 'remedy export ansible' from a plan, with Ansible's own modules: nothing else is needed
# on the host.
#
#   ansible-playbook -i INVENTORY {name} --check --diff
#   ansible-playbook -i INVENTORY {name} -e remedy_hosts=PATTERN   other hosts than the plan's
#
# {other} Unlike remedy it keeps no journal and does not look whether the fault is
# gone. A plan made in a network namespace (remedy_namespace) has to run where commands act in it.
"""
_ONE_HOST: Task = {
    "name": "Stop if the plan's host has the name of a group",
    "ansible.builtin.assert": {
        "that": "remedy_hosts is defined or ansible_play_hosts_all == remedy_made_for",
        "fail_msg": "made for one host: name hosts with -e remedy_hosts=PATTERN",
        "quiet": True,
    },
}


def playbooks(plan: Plan) -> dict[str, str]:
    """Return the text of ``apply.yml`` and ``rollback.yml``.

    Raises InputError for a plan that changes nothing, whose host has no host name, or that holds
    what cannot be written so; RemedyError where PyYAML is missing.
    """
    if not plan.changes:
        raise InputError("the plan changes nothing", "there is nothing to export")
    name = plan.scan.host.name
    plain = name.replace("-", "").replace(".", "").replace("_", "").isalnum()
    if not (plain and name.isascii()) or name.startswith("-") or name in ("all", "ungrouped"):
        raise InputError(
            f"the plan's host is called {name!r}, which is not a host name", "make a new plan"
        )
    back = tuple(change.reversed() for change in reversed(plan.changes))
    return {
        "apply.yml": _rendered(
            plan,
            "Apply",
            [task for change in plan.changes for task in (*tasks(change), *effects(change))],
            _HEAD.format(name="apply.yml", other="rollback.yml undoes it."),
        ),
        "rollback.yml": _rendered(
            plan,
            "Roll back",
            [task for change in back for task in tasks(change)],
            _HEAD.format(name="rollback.yml", other="apply.yml does it again."),
        ),
    }


def tasks(change: Change) -> Iterator[Task]:
    """Yield what a change is made of.

    Raises InputError for a resource that is not ours to write or has no form here, and for a
    state that a program on the host could not read back.
    """
    driver, path = resources.driver(change.resource)
    return driver.tasks(path, change.before, change.after)


def effects(change: Change) -> Iterator[Task]:
    """Yield what is done once a change is written: what an effect names goes."""
    for effect in change.effects:
        driver, path = resources.driver(effect)
        yield from driver.tasks(path, None, None)


def _rendered(plan: Plan, verb: str, tasks: Iterable[Task], head: str) -> str:
    """Return a playbook as YAML; raise InputError where it would not be read back as it is."""
    dumper, loader = _yaml()
    import yaml

    host = plan.scan.host
    play = {
        "name": f"{verb} a plan of remedy",
        "hosts": "{{ remedy_hosts | default(remedy_made_for) }}",
        "gather_facts": False,
        "become": True,
        "vars": {
            "remedy_plan": Texts([plan.id]),
            "remedy_made": Texts([plan.scan.time]),
            "remedy_made_for": Texts([host.name]),
            "remedy_namespace": Texts([host.netns]),
        },
        "tasks": [_ONE_HOST, *tasks],
    }
    text = yaml.dump([play], Dumper=dumper, sort_keys=False, width=100)
    try:
        text.encode()
        read = yaml.load(text, loader)  # noqa: S506  # a SafeLoader and one tag
    except (UnicodeEncodeError, yaml.YAMLError) as error:
        raise _unfit(str(error)) from error
    if read != [play]:
        raise _unfit(text)
    return head + text


def _yaml() -> tuple[Any, Any]:
    """Return the classes that write and read YAML with Ansible's tag for text."""
    try:
        import yaml
    except ImportError:
        raise RemedyError("exporting needs PyYAML", how_to_add("yaml")) from None

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def text(self, text: Text) -> Any:
            resolve: Any = self.resolve
            if resolve(yaml.ScalarNode, str(text), (True, False)) != "tag:yaml.org,2002:str":
                raise _unfit(text)
            style = "|" if text.endswith("\n") else '"'
            return self.represent_scalar("!unsafe", str(text), style=style)

        def texts(self, texts: Texts) -> Any:
            return self.represent_sequence("!unsafe", list(texts))

    class TextLoader(yaml.SafeLoader):
        def text(self, node: Any) -> Any:
            if isinstance(node, yaml.ScalarNode):
                return Text(self.construct_scalar(node))
            return Texts(self.construct_sequence(node))

    Dumper.add_representer(Text, Dumper.text)
    Dumper.add_representer(Texts, Dumper.texts)
    TextLoader.add_constructor("!unsafe", TextLoader.text)
    return Dumper, TextLoader


def _unfit(text: str) -> InputError:
    return InputError(f"a playbook cannot hold {text[:80]!r}", "use 'remedy apply'")
