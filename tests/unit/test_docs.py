"""The docs are true: links lead somewhere, what they list is what the code has, examples run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import builder
import pytest

from remedies import catalogue, errors, policy
from remedies.cli import parser, schema, status, topics
from remedies.lab import scenarios
from remedies.netfilter.bypass import Bypass
from remedies.operations.outlook import AtBoot, Outlook
from remedies.operations.standing import HostStatus
from remedies.outcomes import ANSWERS, ENDS
from remedies.status.harm import Harm
from remedies.status.in_force import HeldState, InForce
from remedies.transaction import audit
from remedies.transaction.journal import NAME, Journal
from remedies.values import fields, replace

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    tops = list(ROOT.glob("*.md"))
    inner = [p for top in ("docs", "tests", "playbooks", "policies", "remedies")
             for p in (ROOT / top).rglob("*.md")]  # fmt: skip
    return sorted([*tops, *inner])


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dangling(path: Path, text: str) -> Iterator[str]:
    for target in LINK.findall(CODE.sub("", text)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists():
            yield f"{path.name}: {target}: no such file"
        elif anchor and anchor not in anchors(file.read_text()):
            yield f"{path.name}: {target}: no such heading"


@pytest.mark.parametrize("path", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert list(dangling(path, path.read_text())) == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# One heading\n[a](#one-heading) [b](#two) [c](gone.md) `[d](code.md)`\n")
    assert [line.split(": ")[1] for line in dangling(path, path.read_text())] == ["#two", "gone.md"]


def test_what_is_generated_is_as_it_would_be_written() -> None:
    argv = [sys.executable, str(ROOT / "tests" / "docs_pages.py"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_every_page_is_in_the_index() -> None:
    named = set(LINK.findall(page("README.md")))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= named


def test_what_pages_tell_to_change_stands_there() -> None:
    """Followed whole, with what comes of it, by tests/kernel/test_writing_pages.py."""
    diff = re.compile(r"^<!-- change: (\S+) -->\n```diff\n(.*?)^```$", re.M | re.S)
    made = "".join(path.read_text() for path in (ROOT / "docs").glob("writing-*.md"))
    for name, lines in diff.findall(made):
        text = (ROOT / name).read_text() if (ROOT / name).exists() else ""
        for pair in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)*)", lines, re.M):
            before, after = (re.sub(r"^.", "", part, flags=re.M) for part in pair)
            # Or one page adds it and another one changes it; or, in a copy, it was followed.
            added = f"\n+{before}" in made or f"\n{before}" in made
            assert text.count(before) == 1 or added or (after and after in text), before


# --- README and policies ------------------------------------------------------------------------


def test_the_policy_is_valid(tmp_path: Path) -> None:
    text, stated = re.findall(r"^```yaml\n(.*?)^```", page("policies.md"), re.MULTILINE | re.DOTALL)
    path = tmp_path / "policy.yaml"
    path.write_text(text + stated)
    compiled = policy.load((str(path),))
    assert compiled.require[0].fix == "notrack"
    assert compiled.rules["site.accept-queue"].fixes == ("site.accept-queue",)


@pytest.mark.parametrize("path", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_verb_that_is_named_exists(path: Path) -> None:
    if path.name != "CHANGELOG.md":
        named = set(re.findall(r"`remedy ([a-z]+)", path.read_text()))
        assert named <= {*parser.VERBS, "owner"}, "owner is what writing-a-verb.md adds"


# --- README -------------------------------------------------------------------------------------


def test_the_readme_fits_two_screens_before_the_reference() -> None:
    before = README.partition("\n# Reference\n")[0]
    assert len(before.splitlines()) <= 100


def test_every_condition_is_listed_by_what_a_person_sees() -> None:
    listed = page("conditions/README.md")
    for name in catalogue.condition_ids():
        assert f"docs/conditions/{name}.md" in README, name
        assert f"| {catalogue.condition(name).SYMPTOM} | [{name}]" in listed


def exit_codes(text: str) -> set[int]:
    table = text.partition("| code | meaning |")[2].partition("\n\n")[0]
    cells = (line.split("|")[1] for line in table.splitlines()[2:])
    return {int(code) for cell in cells for code in re.findall(r"\d+", cell)}


def test_every_exit_code_is_explained() -> None:
    kinds: list[type[errors.RemedyError]] = [
        errors.RemedyError,
        *errors.RemedyError.__subclasses__(),
    ]
    assert {kind.exit_code for kind in kinds} <= exit_codes(README)
    operations = page("operations.md").replace("| code | meaning | the host", "| code | meaning |")
    assert exit_codes(operations) == exit_codes(README)
    explained = re.findall(r"^- (\d+)(?:, (\d+))?:", topics.TOPICS["exit-codes"][1], re.MULTILINE)
    assert {int(code) for row in explained for code in row if code} == exit_codes(README)


# --- what the pages list ------------------------------------------------------------------------


def first_column(text: str, heading: str) -> set[str]:
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([a-z-]+)`", section, re.MULTILINE))


def test_every_condition_has_a_scenario_and_only_conditions_are_drawn() -> None:
    told = {scenarios.load(name).CONDITION for name in scenarios.names()}
    for name in catalogue.condition_ids():
        unseen = "not seen on a kernel" in " ".join(
            (catalogue.condition(name).__doc__ or "").split()
        )
        shown = {name, *catalogue.explained_by(name)} & told
        assert bool(shown) != unseen, (
            f"{name}: a scenario shows it, or its page says that none does"
        )
    drawn = set(re.findall(r"^## ([a-z-]+)$", page("how-it-works.md"), re.MULTILINE))
    assert drawn
    assert drawn <= set(catalogue.condition_ids())


def test_every_kind_of_record_is_described() -> None:
    """The kinds stand at the field that holds them."""
    source = (ROOT / "remedies" / "transaction" / "record.py").read_text()
    (kinds,) = re.findall(r'^    kind: str\n    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
    assert first_column(page("journal.md"), "Record kinds") == set(re.findall(r"``(\w+)``", kinds))


def test_every_state_of_an_unfinished_transaction_is_described() -> None:
    listed = first_column(page("transaction.md"), "How an unfinished transaction is found")
    assert listed == set(status._WORDS)


def test_every_end_of_a_transaction_is_described() -> None:
    _, _, section = page("transaction.md").partition("\n## How a transaction ends\n")
    section, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]+) \|$", section, re.MULTILINE)
    assert {word for word, _ in rows} == set(ENDS)
    for word, told in rows:
        codes = {row.code for row in ANSWERS.values() if row.outcome == word}
        assert {int(code) for code in re.findall(r"\d+", told)} == codes


# --- status exits 2 ------------------------------------------------------------------------------

OURS = InForce("t1", "f", "a", "ours")
WELL = HostStatus((OURS,), Outlook((), ()), {}, ())
BAD = {
    **{state: replace(WELL, entries=(replace(OURS, state=state),))
       for state in get_args(HeldState) if state != "ours"},
    **{f"{word[0].strip()} {why}": replace(WELL, entries=(), unfinished={"t2": why})
       for why, word in status._WORDS.items()},
    "unowned": replace(WELL, entries=(), unowned=("nft:inet/remedy_x",)),
    "harm": replace(WELL, entries=(), outlook=Outlook((), (Harm("a", "f", "drops"),))),
    "bypassed": replace(
        WELL, entries=(), outlook=Outlook((), (), (Bypass("a", "ip", "h", "o", "r", "p"),))
    ),
    "boot": replace(WELL, entries=(), outlook=Outlook((AtBoot("a", "", None, False, True),), ())),
}  # fmt: skip
"""Everything that can be wrong with what is in force, by the first word of its line."""
HERE = cast(Any, SimpleNamespace(
    policy=SimpleNamespace(names=()), ledger={}, held={"a": builder.held("a")}
))  # fmt: skip
STYLE = Namespace(plain=True, quiet=False, no_color=True, json=False, typed=frozenset())


def test_every_reason_for_which_status_exits_2_is_listed() -> None:
    printed = {name: status.text(STYLE, HERE, found).split()[0] for name, found in BAD.items()}
    assert printed == {name: name.split()[0] for name in BAD}
    waits = {name for name, found in BAD.items() if not found.bad}
    assert waits == {"pending pending"}
    words = {name.split()[0] for name in set(BAD) - waits}
    assert first_column(page("operations.md"), "status exits 2") == words


def test_whatever_status_looks_at_is_among_those_reasons() -> None:
    """A field more is a reason more; this fails until it is above, and on the page."""
    looked_at = {name for kind in (HostStatus, Outlook) for name in fields(kind) or {}}
    told = {
        name
        for found in BAD.values()
        for one, well in ((found, WELL), (found.outlook, WELL.outlook))
        for name in fields(type(one)) or {}
        if getattr(one, name) != getattr(well, name)
    }
    assert told == looked_at


def test_every_kind_of_document_is_described() -> None:
    text = page("json.md")
    missing = [kind for kind in (*schema.kinds(), "report") if f"`{kind}" not in text]
    assert missing == []


# --- the journal, verified without the tool ------------------------------------------------------


@pytest.fixture
def verifier(tmp_path: Path) -> Path:
    text = page("journal.md")
    (script,) = re.findall(r"<!-- verify.py: begin -->\n```python\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "verify.py"
    path.write_text(script)
    return path


def written(folder: Path) -> Path:
    """Return a journal of two segments with a torn line."""
    folder.mkdir()
    with Journal(str(folder)) as journal:
        journal.append("begin", "t", {"host": "büro"})
        with open(journal.path, "ab") as file:
            file.write(b'{"v":2,"se')
    with Journal(str(folder)) as journal:
        journal.append("end", "t", {"outcome": "applied"})
        journal.rotate({"transactions": []})
        journal.append("begin", "u", {})
    return folder


def run(verifier: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", str(verifier), str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def test_a_journal_is_verified_without_the_tool(tmp_path: Path, verifier: Path) -> None:
    folder = written(tmp_path / "state")
    done = run(verifier, folder)
    ours = audit.verify(str(folder / NAME))
    assert ours.problems == []
    assert done.stdout == f"{ours.records} records, head {ours.head}\n", done.stderr
    assert (done.returncode, ours.records) == (0, 5)


@pytest.mark.parametrize("damage", ["altered", "removed", "torn"])
def test_without_the_tool_damage_is_seen(tmp_path: Path, verifier: Path, damage: str) -> None:
    folder = written(tmp_path / "state")
    path = folder / NAME
    lines = path.read_text().splitlines(keepends=True)
    if damage == "altered":
        first = json.loads(lines[0])
        first["data"]["host"] = "other"
        lines[0] = json.dumps(first, separators=(",", ":")) + "\n"
    elif damage == "removed":
        del lines[0]
    else:
        lines[1] = '{"v":2,"xx#\n'
    path.write_text("".join(lines))
    done = run(verifier, folder)
    assert done.returncode == 1
    assert "record" in done.stderr
