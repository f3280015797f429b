"""The rules that keep it simple, held to by looking at the source and at a fresh interpreter."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from host_side import host_side

from remedies import catalogue

ROOT = Path(__file__).resolve().parent.parent.parent

SOURCES = sorted(ROOT.glob("remedies/**/*.py"))
CONDITION_HEADINGS = (
    "What it detects",
    "Why it matters",
    "Evidence",
    "False positives",
    "References",
)
FIX_HEADINGS = ("What it changes", "Safety", "What rollback restores", "References")


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return a source's syntax, parsed and walked once for all rules."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_grows_past_400_lines() -> None:
    lines = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_files_are_named_for_what_they_hold() -> None:
    said = ("utils", "util", "helpers", "common", "misc")
    assert [relative(path) for path in SOURCES if path.stem in said] == []


def test_the_host_side_is_python_3_9() -> None:
    """Syntax of 3.9, and no ``X | Y`` where the decoder evaluates it: dataclass fields."""
    assert host_side()
    for path in host_side():
        ast.parse(path.read_text(), relative(path), feature_version=(3, 9))
        for node in nodes(path):
            if isinstance(node, ast.ClassDef) and any(
                "dataclass" in ast.unparse(decorator) for decorator in node.decorator_list
            ):
                for field in node.body:
                    if isinstance(field, ast.AnnAssign):
                        assert not any(
                            isinstance(part, ast.BitOr) for part in ast.walk(field.annotation)
                        ), f"{relative(path)}: {ast.unparse(field)}: use Optional[...]"


def fresh(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has imported after ``code``."""
    script = f"import sys, io\n{code}\nsys.stderr.write('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    return set(result.stderr.splitlines())


HEAVY = {"pydantic", "jinja2", "rich", "ansible_runner", "iptc", "shtab"}


def test_help_imports_nothing_heavy() -> None:
    modules = fresh("from remedies.cli import parser\nparser.build(bare=True).format_help()")
    assert not modules & (HEAVY | {"yaml", "subprocess", "dataclasses", "ctypes"})


def test_planning_and_writing_import_nothing_heavy() -> None:
    modules = fresh(
        "import remedies.operations.apply, remedies.operations.rollback, remedies.cli.render\n"
        "import remedies.planning.plan, remedies.facts.gather\n"
        "from remedies import catalogue\n"
        "[catalogue.condition(c).NEEDS for c in catalogue.condition_ids()]\n"
        "[catalogue.fix(f).NEEDS for f in catalogue.fix_ids()]"
    )
    assert not modules & (HEAVY | {"yaml"})


@pytest.mark.parametrize("verb", ["check", "list", "plan", "scan"])
def test_a_verb_that_only_reads_imports_nothing_that_writes(verb: str) -> None:
    writers = {
        "remedies.operations.apply",
        "remedies.transaction.run",
        "remedies.transaction.guard",
    }
    assert not fresh(f"import remedies.cli.{verb}") & writers


@pytest.mark.parametrize("name", catalogue.condition_ids())
def test_a_condition_explains_itself(name: str) -> None:
    module = catalogue.condition(name)
    assert headings(module.__doc__) == CONDITION_HEADINGS
    assert module.TITLE
    assert module.SYMPTOM
    assert module.SEVERITY in ("low", "medium", "high", "critical")
    assert catalogue.area(name) in catalogue.AREAS
    assert set(catalogue.explained_by(name)) <= set(catalogue.condition_ids()) - {name}


@pytest.mark.parametrize("name", catalogue.fix_ids())
def test_a_fix_explains_itself(name: str) -> None:
    module = catalogue.fix(name)
    assert headings(module.__doc__) == FIX_HEADINGS
    assert module.TITLE
    assert module.RISK in ("low", "moderate", "high")
    assert set(module.ANSWERS) <= set(catalogue.condition_ids())


def headings(docstring: str | None) -> tuple[str, ...]:
    return tuple(re.findall(r"^([A-Z][A-Za-z ]+)$", docstring or "", re.MULTILINE))


def test_no_shell_is_ever_asked_for() -> None:
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                assert path.stem == "completion", f"{relative(path)}:{node.value.lineno}: shell="
            if isinstance(node, ast.Attribute) and node.attr in ("system", "popen"):
                called = ast.unparse(node)
                assert called not in ("os.system", "os.popen"), f"{relative(path)}:{node.lineno}"


def test_architecture_names_every_file() -> None:
    """A reader finds the file of each word: every folder and top module stands on the page."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for path in SOURCES:
        name = path.relative_to(ROOT / "remedies").as_posix()
        if "/" not in name and name not in ("__init__.py", "__main__.py"):
            assert f"`{name}`" in page or f"  {name} " in page, f"{name} is not on the page"
        if "/" in name:
            assert f"{name.split('/')[0]}/" in page


def test_imports_stand_at_the_top() -> None:
    """But for those that a whole library hangs on and few runs need, and what the bundle lacks."""
    ours = set()
    count = 0
    for path in SOURCES:
        for function in nodes(path):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("remedies"):
                    ours.add(relative(path))
                count += isinstance(node, (ast.Import, ast.ImportFrom))
    assert ours <= {
        "remedies/cli/__init__.py",
        "remedies/cli/settings.py",
        "remedies/policy/__init__.py",
        "remedies/start/launch.py",
    }
    assert count <= 40


def test_a_class_name_has_one_meaning() -> None:
    """One word, one concept: no two modules define a class of the same name."""
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(relative(path))
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


_CHANGING = {"Audit", "Story", "Track", "Transaction", "Past"}
"""Public classes whose values change: each is filled while something is read."""


def test_values_are_frozen() -> None:
    """A public dataclass is a value; one that is filled step by step is private to its module."""
    for path in SOURCES:
        for node in nodes(path):
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            made = [ast.unparse(each) for each in node.decorator_list]
            if any(each.startswith("dataclass") for each in made):
                assert "dataclass(frozen=True)" in made or node.name in _CHANGING, node.name


_PURE = ("conditions", "fixes", "rules", "planning")
_READS = {"open", "exec", "eval", "compile", "__import__", "input", "print"}


def test_what_is_pure_opens_no_file_and_runs_no_code() -> None:
    """The import contracts cannot see a builtin: a condition that opens a file imports nothing."""
    for path in SOURCES:
        if relative(path).split("/")[1] not in _PURE:
            continue
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in _READS, f"{relative(path)}:{node.lineno}"


def test_the_command_line_alone_prints_and_asks() -> None:
    for path in SOURCES:
        if relative(path).split("/")[1] in ("cli", "lab", "start"):
            continue
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "input"), f"{relative(path)}:{node.lineno}"
