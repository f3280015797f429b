"""What docs/writing-*.md tell a newcomer to write works, and is all that there is to write.

A copy of the project gets exactly what stands on the pages. There the pages are made anew, the
project's own tests of such things pass, and the lab breaks, heals and breaks again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MOST = 4
"""Places that a newcomer has to touch, beside tests and CHANGELOG.md."""
BLOCK = re.compile(r"^<!-- (file|add to|change): (\S+) -->\n```\w+\n(.*?)^```$", re.M | re.S)
CONTRACTS = ("test_docs.py", "test_docs_commands.py", "test_lab_scenarios.py",
             "test_shipped_policies.py", "test_architecture.py", "test_completion.py")  # fmt: skip
NAMED = {
    "test_condition_cases.py": ("forwarding-off", "each_condition"),
    "tests/kernel/test_resource_mtu.py": ("test_resource_mtu",),
    "test_report_formats.py": ("tap", "promised"),
    "test_hostile_report.py": ("tap", "promised"),
    "test_owner.py": ("test_owner",),
    "test_output_schema.py": ("test_output_schema",),
    "test_fleet_actions.py": ("test_fleet_actions",),
}
"""The tests that the pages name, and words of those that are about what was added."""
OF_THE_HOST = "tests/unit/test_completion.py::test_names_of_this_host"
"""What a shell completes of transactions, namespaces and files: nothing that was added."""


class Copy:
    """A copy of the project, and what was added to it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.root.mkdir()
        for name in ("docs", "monitoring", "playbooks", "policies", "remedies", "tests"):
            # With the package's bytecode, but for what another process has half written.
            ignored = "*.pyc.*" if name == "remedies" else "__pycache__"
            shutil.copytree(
                ROOT / name,
                self.root / name,
                ignore=shutil.ignore_patterns(ignored, "shipped_data"),
            )
        for path in (*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "Makefile"):
            shutil.copy(path, self.root)

    def follow(self, page: str) -> set[str]:
        """Do what a page says; return the places that it touches, but for tests."""
        touched = set()
        for what, name, text in BLOCK.findall((ROOT / "docs" / page).read_text()):
            path = self.root / name
            path.parent.mkdir(exist_ok=True)
            if what == "file":
                assert not path.exists()
                path.write_text(text)
            elif what == "add to":
                path.write_text(path.read_text() + text)
            else:
                path.write_text(changed(path.read_text(), text))
            touched.add(name)
        return {name for name in touched if not name.startswith("tests/")}

    def run(self, *argv: str, code: int = 0) -> str:
        """Run Python in the copy; return what it printed."""
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        done = subprocess.run(
            [sys.executable, *argv], cwd=self.root, capture_output=True, text=True,
            env={**kept, "PYTHONPATH": str(self.root)}, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout

    def test(self, *words: str) -> None:
        """Run unit tests of the copy, by file and by pytest's own options."""
        named = [f"tests/unit/{w}" if w.endswith(".py") and "/" not in w else w for w in words]
        self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *named)

    def remedy(self, *words: str) -> str:
        """Run the copy's command line."""
        return self.run("-m", "remedies", *words)


def changed(text: str, difference: str) -> str:
    """Return a text with each run of ``-`` lines replaced by the ``+`` lines after it."""
    for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)*)", difference, re.M):
        before, after = (re.sub(r"^.", "", part, flags=re.M) for part in (old, new))
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("newcomer"))


def test_a_condition_is_added_by_its_page_alone(copy: Copy) -> None:
    assert len(copy.follow("writing-a-condition.md")) <= MOST
    listed = json.loads(copy.remedy("list", "--json"))
    assert "forwarding-off" in {condition["id"] for condition in listed["conditions"]}
    assert "What it detects" in copy.remedy("explain", "forwarding-off")
    copy.run("tests/docs_pages.py")
    assert "forwarding-off" in (copy.root / "README.md").read_text()
    copy.remedy("lab", "run", "forwarding-off")
    copy.remedy("lab", "run", "forwarding-off", "--healthy")


def test_a_fix_is_added_by_its_page_alone(copy: Copy) -> None:
    before_the_fix = {"remedies/lab/scenarios/forwarding_off.py"}
    assert len(copy.follow("writing-a-fix.md") - before_the_fix) <= MOST
    assert "What rollback restores" in copy.remedy("explain", "enable-forwarding")
    told = json.loads(copy.remedy("lab", "run", "forwarding-off", "--json"))
    assert [step["title"] for step in told["steps"]][3] == "The fix"


@pytest.mark.parametrize(
    ("page", "places", "words"),
    [
        ("writing-a-resource.md", 2, ("list",)),
        ("writing-a-format.md", 1, ("report", "-o", "tap:-")),
        ("writing-a-verb.md", 4, ("schema", "owner")),
        ("writing-a-fleet-action.md", 3, ("fleet", "doctor", "--help")),
    ],
)
def test_what_else_can_be_added_is_added_by_its_page_alone(
    copy: Copy, page: str, places: int, words: tuple[str, ...]
) -> None:
    touched = copy.follow(page)
    assert len(touched) == places <= MOST, touched
    assert copy.remedy(*words)


def test_the_project_is_sound_with_all_of_it(copy: Copy) -> None:
    copy.run("tests/docs_pages.py")
    copy.test(*CONTRACTS, "--deselect", OF_THE_HOST)


def test_what_was_added_passes_the_tests_that_its_page_names(copy: Copy) -> None:
    words = " or ".join(word for words in NAMED.values() for word in words)
    copy.test(*NAMED, "-k", words)
