"""A plan and its way back as two playbooks that need Ansible's own modules and nothing of ours.

Each resource becomes looking and, where it is not so yet, doing: a second run changes nothing.

A plan holds text of a host: comments, names, values that somebody there has chosen. All of it is
:class:`Text` or in :class:`Texts`, tagged ``!unsafe``: data of a module or of a variable.
Everything else in a playbook, names of tasks and conditions too, is the same whatever it says.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

from remedies.errors import InputError, RemedyError
from remedies.model import Change, Plan
from remedies.resources import file, sysctl
from remedies.rules import flow_address, restore_script
from remedies.rules.ours import iptables_sections, iptables_split, nft_split

Task = dict[str, Any]


class Text(str):
    """Text of a plan, as one argument of a module.

    ansible-core 2.19 takes a scalar with the tag for what it would be without quotes (a number,
    null): a text that YAML reads so cannot be written.
    """


class Texts(list[str]):
    """Texts of a plan: words of a command, or what a condition compares with. Always texts."""


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
    "name": "Stop where the plan's host has the name of a group",
    "ansible.builtin.assert": {
        "that": "remedy_hosts is defined or ansible_play_hosts_all == remedy_made_for",
        "fail_msg": "made for one host: name hosts with -e remedy_hosts=PATTERN",
        "quiet": True,
    },
}
# A table or chain that is there is compared with what this host's own program prints of ours once
# an empty network namespace holds it: versions print one rule differently.
_PRINTED_NFT = 'nft -j -f - && exec nft -j -s list table "$1" "$2"'
_PRINTED_XTABLES = '"$1-restore" && exec "$1-save" -t "$2"'
_HANDLES = """ | regex_replace(', "handle": [0-9]+', '')"""
_OURS = " | select('match', own[0]) | list"
_NONE = " | select('match', chain[0]) | list | length == 0"


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
        raise InputError(f"the plan's host is called {name!r}, which is no host name", "plan anew")
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
    scheme, _, path = change.resource.partition(":")
    ways = {
        "sysctl": _sysctl,
        "nft": _nft,
        "file": _file,
        "iptables": _iptables,
        "ip6tables": _iptables,
    }
    if scheme not in ways:
        raise InputError(f"{change.resource}: has no form in a playbook", "use 'remedy apply'")
    return ways[scheme](change, path)


def effects(change: Change) -> Iterator[Task]:
    """Yield what is done once a change is written: stale flows go, where conntrack(8) is there."""
    for effect in change.effects:
        does = flow_address.text(effect)
        scheme, _, path = effect.partition(":")
        flow = flow_address.split(path) if scheme == "flow" else None
        if not isinstance(flow, flow_address.Exact):
            yield _said("Leave stale flows to time out", f"left to time out, remedy {does}")
            continue
        try:
            ends = [str(ipaddress.ip_address(end)) for end in (flow.source, flow.destination)]
        except ValueError as error:
            raise InputError(f"{effect}: {error}", "make a new plan") from None
        ports = ["--sport", str(flow.source_port), "--dport", str(flow.destination_port)]
        named = ["-p", "udp", "-s", ends[0], "-d", ends[1], *ports]
        yield _looked("Look for a stale flow", ["conntrack", "-G", *named], None)
        # As remedy itself: one that was answered is not stale, and one that is redirected neither.
        stale = f"[UNREPLIED] src={flow.destination} dst={flow.source} "
        yield _done(
            "Delete a stale flow",
            ["conntrack", "-D", *named],
            "stale[0] in looked.stdout | default('')",
            stale=stale,
        )
        unanswered = f"conntrack gives no answer: left to time out, remedy {does}"
        yield {
            **_said("Say where conntrack gives no answer", unanswered),
            "when": "looked.rc not in [0, 1]",
        }


def _said(name: str, message: str) -> Task:
    return {"name": name, "ansible.builtin.debug": {"msg": Text(message)}}


def _looked(
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


def _done(
    name: str, argv: Sequence[str], when: str, *, stdin: Optional[str] = None, **values: str
) -> Task:
    """Return a task that changes something; ``when`` finds each of ``values`` in a list."""
    task = {"name": name, "ansible.builtin.command": _command(argv, stdin), "when": when}
    lists = {key: Texts([value]) for key, value in values.items()}
    return {**task, **({"vars": lists} if lists else {}), "changed_when": True}


def _command(argv: Sequence[str], stdin: Optional[str]) -> dict[str, object]:
    return {"argv": Texts(argv), **({} if stdin is None else {"stdin": Text(stdin)})}


def _sysctl(change: Change, path: str) -> Iterator[Task]:
    sysctl.file_of(path)
    if change.after is None:
        raise InputError(f"{change.resource}: a key of the kernel's cannot be removed")
    yield _looked("Look at a sysctl", ["sysctl", "-n", path], (0,))
    yield _done(
        "Set a sysctl",
        ["sysctl", "-q", "-w", f"{path}={change.after}"],
        "looked.stdout.split() | join(' ') != wanted[0]",
        wanted=" ".join(change.after.split()),
    )


def _nft(change: Change, path: str) -> Iterator[Task]:
    names = nft_split(path)
    if change.after is None:
        yield _looked("Look for a table", ["nft", "list", "table", *names])
        yield _done("Remove a table", ["nft", "delete", "table", *names], "looked.rc == 0")
        return
    batch = restore_script.nft_batch(path, change.after)
    yield _looked("Look at a table", ["nft", "-j", "-s", "list", "table", *names])
    yield _printed(_PRINTED_NFT, names, batch)
    yield _done(
        "Write a table",
        ["nft", "-j", "-f", "-"],
        "looked.rc != 0 or printed.rc != 0 or "
        f"(looked.stdout{_HANDLES}) != (printed.stdout{_HANDLES})",
        stdin=batch,
    )


def _printed(command: str, names: Sequence[str], stdin: str) -> Task:
    """Return the task that lets a program of the host print what it reads from ``stdin``."""
    argv = ["unshare", "--net", "sh", "-c", command, "sh", *names]
    return _looked("See how it is printed here", argv, None, stdin=stdin, register="printed")


def _file(change: Change, path: str) -> Iterator[Task]:
    """Yield the file, and its folder where that is made for the first and goes with the last."""
    folder, _ = file.split(path)
    base = file.MADE.get(folder, folder)
    if change.after is not None:
        write = {"dest": Text(path), "content": Text(change.after), "mode": "0644"}
        task = {"name": "Write a file", "ansible.builtin.copy": write}
        if folder != base:
            made = {"path": Text(folder), "state": "directory", "mode": "0755"}
            yield {"name": "Make its folder", "ansible.builtin.file": made, "register": "made"}
            task["when"] = "not (ansible_check_mode and made is changed)"
        yield task
        return
    gone = {"path": Text(path), "state": "absent"}
    yield {"name": "Remove a file", "ansible.builtin.file": gone}
    while folder != base:
        yield _looked("Look into its folder", ["ls", "-A", folder], (0, 2))
        empty = "looked.rc == 0 and not looked.stdout"
        yield _done("Remove its folder if that is empty", ["rmdir", folder], empty)
        folder = os.path.dirname(folder)


def _iptables(change: Change, path: str) -> Iterator[Task]:
    """Yield the own chain, then the jumps to it; to remove, the other way round."""
    family = change.resource.partition(":")[0]
    table, chain = iptables_split(path)
    after, before = iptables_sections(change.after), iptables_sections(change.before)
    for variant in sorted({*after, *before}):
        program = f"{family}-{variant}"
        lines, old = after.get(variant, ()), before.get(variant, ())
        if f":{chain} -" not in lines:
            if f":{chain} -" in old:
                yield from _removed(program, table, chain, restore_script.jumps_in(old, chain))
            continue
        rules = [line for line in lines if line.startswith(f"-A {chain} ")]
        for line in rules:
            restore_script.words(line)
        text = "\n".join([f"*{table}", f":{chain} - [0:0]", *rules, "COMMIT", ""])
        there = f"{program}-save"
        yield _looked("Look at a chain", [there, "-t", table], (0,))
        yield _printed(_PRINTED_XTABLES, [program, table], text)
        yield _done(
            "Write a chain",
            [f"{program}-restore", "--noflush", "--wait"],
            f"printed.rc != 0 or (looked.stdout_lines{_OURS}) != "
            f"(printed.stdout_lines{_OURS}) or (looked.stdout_lines{_NONE})",
            stdin=text,
            own=Text(f"-A {chain} "),
            chain=f":{chain} ",
        )
        for jump in restore_script.jumps_in(lines, chain):
            yield from _jump("Write a jump", program, table, jump, "-I", "looked.rc != 0")


def _removed(program: str, table: str, chain: str, jumps: Sequence[str]) -> Iterator[Task]:
    for jump in jumps:
        yield from _jump("Remove a jump", program, table, jump, "-D", "looked.rc == 0")
    yield _looked("Look for a chain", [f"{program}-save", "-t", table], (0,))
    yield _done(
        "Remove a chain",
        [f"{program}-restore", "--noflush", "--wait"],
        f"not (looked.stdout_lines{_NONE})",
        stdin=f"*{table}\n:{chain} - [0:0]\n-X {chain}\nCOMMIT\n",
        chain=f":{chain} ",
    )


def _jump(name: str, program: str, table: str, line: str, action: str, when: str) -> Iterator[Task]:
    words = restore_script.words(line)[1:]
    begin = [program, "-w", "-t", table]
    yield _looked("Look for a jump", [*begin, "-C", *words], (0, 1, 2))
    yield _done(name, [*begin, action, *words], when)


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
        raise RemedyError("exporting needs PyYAML", "pip install PyYAML") from None

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
