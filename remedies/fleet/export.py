"""A plan and its way back as two playbooks that need Ansible's own modules and nothing of ours.

Each resource becomes looking and, where it is not so yet, doing: a second run changes nothing.
Every value that comes out of the plan is marked ``!unsafe``, so Ansible takes none for a template.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from remedies.errors import InputError, RemedyError
from remedies.model import Change, Plan
from remedies.netfilter import flowpath
from remedies.netfilter.nft_syntax import nft_text
from remedies.netfilter.ours import iptables_sections, iptables_split, nft_split
from remedies.resources.file import MADE


@dataclass(frozen=True)
class Look:
    """A command that only reads."""

    argv: tuple[str, ...]
    fine: Optional[tuple[int, ...]] = (0, 1)
    """Exit codes that answer the question; None: no program, no answer, which is told."""


@dataclass(frozen=True)
class Run:
    """A command, and the Jinja2 test of what was looked at that says whether it is needed."""

    argv: tuple[str, ...]
    when: str
    stdin: str = ""


@dataclass(frozen=True)
class File:
    """A file as it shall be; ``content`` None: absent."""

    path: str
    content: Optional[str]
    folder: str = ""
    """The folder that is made for it where it is missing; empty: it is always there."""


@dataclass(frozen=True)
class Step:
    """What is done about one resource, or one part of it, or about an effect of its change."""

    name: str
    look: Optional[Look] = None
    run: Optional[Run] = None
    file: Optional[File] = None
    tell: str = ""
    """What is said where it cannot be done: without a command always, else if looking failed."""


def playbooks(plan: Plan) -> dict[str, str]:
    """Return the text of ``apply.yml`` and ``rollback.yml``.

    Raises InputError for a plan that changes nothing, whose host has no host name, or that holds
    what cannot be written so; RemedyError where Jinja2 is missing.
    """
    if not plan.changes:
        raise InputError("the plan changes nothing", "there is nothing to export")
    name = plan.scan.host.name
    if not name.isascii() or not name.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise InputError(f"the plan's host is called {name!r}, which is no host name", "plan anew")
    back = tuple(change.reversed() for change in reversed(plan.changes))
    return {
        "apply.yml": _rendered(
            plan,
            "Apply",
            [step for change in plan.changes for step in (*steps(change), *effects(change))],
            "rollback.yml undoes it.",
        ),
        "rollback.yml": _rendered(
            plan,
            "Roll back",
            [step for change in back for step in steps(change)],
            "apply.yml does it again.",
        ),
    }


def steps(change: Change) -> Iterator[Step]:
    """Yield what a change is made of. Raises InputError for a scheme that is not known here."""
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


def effects(change: Change) -> Iterator[Step]:
    """Yield what is done once a change is written: stale flows go, where conntrack(8) is there."""
    for effect in change.effects:
        does = flowpath.text(effect)
        scheme, _, path = effect.partition(":")
        flow = flowpath.split(path) if scheme == "flow" else None
        if not isinstance(flow, flowpath.Exact):
            yield Step(f"Leave to time out: {does}", tell=f"left to time out, remedy {does}")
            continue
        ports = ("--sport", str(flow.source_port), "--dport", str(flow.destination_port))
        named = ("-p", "udp", "-s", flow.source, "-d", flow.destination, *ports)
        # As remedy itself: one that was answered is not stale, and one that is redirected neither.
        stale = f"[UNREPLIED] src={flow.destination} dst={flow.source} "
        yield Step(
            does[0].upper() + does[1:],
            Look(("conntrack", "-G", *named), None),
            Run(("conntrack", "-D", *named), f"{json.dumps(stale)} in looked.stdout | default('')"),
            tell=f"conntrack gives no answer: left to time out, remedy {does}",
        )


def _sysctl(change: Change, path: str) -> Iterator[Step]:
    if change.after is None:
        raise InputError(f"{change.resource}: a key of the kernel's cannot be removed")
    yield Step(
        f"Set {path} to {change.after}",
        Look(("sysctl", "-n", path), (0,)),
        Run(
            ("sysctl", "-q", "-w", f"{path}={change.after}"),
            f"looked.stdout.split() != {json.dumps(change.after.split())}",
        ),
    )


def _nft(change: Change, path: str) -> Iterator[Step]:
    family, table = nft_split(path)
    look = Look(("nft", "-s", "list", "table", family, table))
    if change.after is None:
        run = Run(("nft", "delete", "table", family, table), "looked.rc == 0")
        yield Step(f"Remove the table {family} {table}", look, run)
        return
    text = nft_text(change.after)
    # nft tells it in one way and takes it in another: blanks are not what it is about.
    same = f"looked.stdout.split() != {json.dumps(text.split())}"
    name = f"table {family} {table}"
    script = f"add {name}\ndelete {name}\n{text}"
    yield Step(f"Write the {name}", look, Run(("nft", "-f", "-"), same, script))


def _file(change: Change, path: str) -> Iterator[Step]:
    """Yield the file, and its folder where that is made for the first and goes with the last."""
    folder = os.path.dirname(path)
    base = MADE.get(folder, folder)
    if change.after is not None:
        made = folder if folder != base else ""
        yield Step(f"Write {path}", file=File(path, change.after, made))
        return
    yield Step(f"Remove {path}", file=File(path, None))
    while folder != base:
        empty = "looked.rc == 0 and not looked.stdout"
        yield Step(f"Remove {folder} if it is empty", Look(("ls", "-A", folder), (0, 2)),
                   Run(("rmdir", folder), empty))  # fmt: skip
        folder = os.path.dirname(folder)


def _iptables(change: Change, path: str) -> Iterator[Step]:
    """Yield the own chain, then the jumps to it; to remove, the other way round."""
    family = change.resource.partition(":")[0]
    table, chain = iptables_split(path)
    after, before = iptables_sections(change.after), iptables_sections(change.before)
    for variant in sorted({*after, *before}):
        program = f"{family}-{variant}"
        lines, old = after.get(variant, ()), before.get(variant, ())
        if f":{chain} -" not in lines:
            if f":{chain} -" in old:
                yield from _removed(program, table, chain, _jumps(old, chain))
            continue
        rules = [line for line in lines if line.startswith(f"-A {chain} ")]
        text = "\n".join([f"*{table}", f":{chain} - [0:0]", *rules, "COMMIT", ""])
        yield Step(
            f"Write the chain {chain} of {program} {table}",
            Look((f"{program}-save", "-t", table), (0,)),
            Run(
                (f"{program}-restore", "--noflush", "--wait"),
                f"':{chain} ' not in looked.stdout or (looked.stdout_lines | "
                f"select('match', '-A {chain} ') | list) != {json.dumps(rules)}",
                text,
            ),
        )
        for jump in _jumps(lines, chain):
            yield _jump(program, table, jump, "-I", "looked.rc != 0")


def _removed(program: str, table: str, chain: str, jumps: Sequence[str]) -> Iterator[Step]:
    for jump in jumps:
        yield _jump(program, table, jump, "-D", "looked.rc == 0")
    text = f"*{table}\n:{chain} - [0:0]\n-X {chain}\nCOMMIT\n"
    yield Step(
        f"Remove the chain {chain} of {program} {table}",
        Look((f"{program}-save", "-t", table), (0,)),
        Run(
            (f"{program}-restore", "--noflush", "--wait"),
            f"':{chain} ' in looked.stdout",
            text,
        ),
    )


def _jump(program: str, table: str, line: str, action: str, when: str) -> Step:
    words = shlex.split(line)[1:]
    what = "Jump from" if action == "-I" else "Do not jump from"
    return Step(
        f"{what} {words[0]} of {program} {table} to {words[-1]}",
        Look((program, "-w", "-t", table, "-C", *words), (0, 1, 2)),
        Run((program, "-w", "-t", table, action, *words), when),
    )


def _jumps(lines: Sequence[str], chain: str) -> list[str]:
    return [line for line in lines if line.startswith("-A ") and line.endswith(f" -j {chain}")]


def _rendered(plan: Plan, verb: str, steps: Sequence[Step], other: str) -> str:
    try:
        import jinja2
    except ImportError:
        raise RemedyError("exporting needs Jinja2", "pip install Jinja2") from None
    environment = jinja2.Environment(  # noqa: S701  # YAML: every value goes through `json`
        loader=jinja2.PackageLoader("remedies.fleet"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json"] = json.dumps
    environment.filters["line"] = lambda text: " ".join(str(text).split())
    return environment.get_template("playbook.yml.j2").render(
        plan=plan,
        verb=verb,
        other=other,
        steps=steps,
    )
