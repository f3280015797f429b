"""Write what is generated: README.md's first table and help, a page for each condition and fix, and
the life of a transaction where it is drawn.

``--check`` writes nothing, names what is not as it would be written, and exits 1 then. The pages
are the docstrings that ``remedy explain`` prints; the drawing is the table ``outcomes.LIFE``.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from remedies import catalogue
from remedies.cli import parser
from remedies.lab import scenarios
from remedies.outcomes import ENDS, LIFE

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- {}: begin -->\n", "<!-- {}: end -->"
MADE = "<!-- Made by tests/docs_pages.py from the docstring of {}: change that. -->\n"
COMMAND = "python tests/docs_pages.py"
SEVERITIES = ("critical", "high", "medium", "low")
DRAWN_IN = ("ARCHITECTURE.md", "docs/transaction.md")


def pages() -> dict[str, str]:
    """Return the text of every generated file by its path in the repository."""
    found = {"README.md": _readme((ROOT / "README.md").read_text())}
    for name in catalogue.condition_ids():
        found[f"docs/conditions/{name}.md"] = _condition(name)
    for name in catalogue.fix_ids():
        found[f"docs/fixes/{name}.md"] = _fix(name)
    for name in DRAWN_IN:
        found[name] = _between((ROOT / name).read_text(), "life", _life())
    found["docs/conditions/README.md"] = _conditions()
    found["docs/fixes/README.md"] = _fixes()
    return found


def _readme(text: str) -> str:
    """Return README.md with a row for each area: its worst symptoms, and its conditions."""
    text = _between(text, "help", f"```text\n{parser.build().format_help()}```\n")
    rows = ["| about | you see, for example | what it may be |", "|---|---|---|"]
    for area, names in _by_area():
        seen = "<br>".join(catalogue.condition(name).SYMPTOM for name in names[:2])
        links = ", ".join(f"[{name}](docs/conditions/{name}.md)" for name in names)
        rows.append(f"| {area} | {seen} | {links} |")
    return _between(text, "symptoms", "\n".join([*rows, ""]))


def _by_area() -> Iterator[tuple[str, list[str]]]:
    """Yield each area that has conditions, with these, the most severe first."""

    def severity(name: str) -> int:
        return SEVERITIES.index(catalogue.condition(name).SEVERITY)

    for area in catalogue.AREAS:
        names = [name for name in catalogue.condition_ids() if catalogue.area(name) == area]
        if names:
            yield area, sorted(names, key=severity)


def _between(text: str, name: str, made: str) -> str:
    begin, end = BEGIN.format(name), END.format(name)
    before, _, rest = text.partition(begin)
    return before + begin + made + end + rest.partition(end)[2]


def _life() -> str:
    """Return the life of a transaction as a state diagram in Mermaid."""

    def node(state: Optional[str]) -> str:  # a hyphen would end the name
        return "[*]" if state is None else state.replace("-", "_")

    lines = [f"    {node(step.state)} --> {node(step.to)}: {step.when}" for step in LIFE]
    ends = [f"    {node(word)} --> [*]" for word in ENDS]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, *ends, "```", ""])


def _condition(name: str) -> str:
    module = catalogue.condition(name)
    told = (s for s in scenarios.names() if name == scenarios.load(s).CONDITION)
    answers = (fix for fix in catalogue.fix_ids() if name in catalogue.fix(fix).ANSWERS)
    facts = {
        "Severity": module.SEVERITY,
        "Fixes": ", ".join(f"[{fix}](../fixes/{fix}.md)" for fix in answers) or "none",
        "Reproduce it": ", ".join(f"`remedy lab run {scenario}`" for scenario in told),
        "Parameters": _parameters(module.PARAMS),
    }
    facts = {"What you see": module.SYMPTOM, **facts}
    return _page(name, "conditions", module.__doc__ or "", facts)


def _fix(name: str) -> str:
    module = catalogue.fix(name)
    answers = ", ".join(f"[{one}](../conditions/{one}.md)" for one in module.ANSWERS)
    facts = {
        "For": answers or "no condition: `require` in a policy",
        "Risk": module.RISK,
        "Parameters": _parameters(module.PARAMS),
    }
    return _page(name, "fixes", module.__doc__ or "", facts)


def _parameters(given: object) -> str:
    named = given.items() if isinstance(given, dict) else ()
    return ", ".join(
        f"`{name}` (required)" if value is None else f"`{name}: {value}`" for name, value in named
    )


def _page(name: str, kind: str, docstring: str, facts: dict[str, str]) -> str:
    source = f"remedies/{kind}/{name.replace('-', '_')}.py"
    lines = [MADE.format(source), f"# {name}", ""]
    lines += [_inline(line) for line in _markdown(inspect.cleandoc(docstring))]
    table = [f"| {key} | {value} |" for key, value in facts.items() if value]
    return "\n".join([*lines, "", "| | |", "|---|---|", *table, ""])


def _markdown(text: str) -> Iterator[str]:
    """Yield a docstring's lines: headings stand at the left, what is under one is indented."""
    summary, _, rest = text.partition("\n\n")
    yield from summary.split("\n")
    under = False
    for line in ("", *rest.split("\n")):
        if line and not line.startswith(" "):
            yield f"## {line}"
            yield ""
            under = True
        else:
            yield line[4:] if under else line


def _inline(line: str) -> str:
    """Return a line in Markdown's marks: no tag of HTML, one backquote for two."""
    parts = re.split(r"(``.+?``)", line)
    return "".join(
        part[1:-1] if part.startswith("``") else re.sub(r"([<*])", r"\\\1", part) for part in parts
    )


def _conditions() -> str:
    lines = [MADE.format("each"), "# Conditions", "", "By what you see."]
    for area, names in _by_area():
        lines += ["", f"## {area[0].upper()}{area[1:]}", ""]
        lines += ["| what you see | what is wrong | severity |", "|---|---|---|"]
        for name in names:
            module = catalogue.condition(name)
            what = f"[{name}]({name}.md): {module.TITLE}"
            lines.append(f"| {module.SYMPTOM} | {what} | {module.SEVERITY} |")
    return "\n".join([*lines, ""])


def _fixes() -> str:
    lines = [MADE.format("each"), "# Fixes", "", "| fix | what it does | for | risk |",
             "|---|---|---|---|"]  # fmt: skip
    for name in catalogue.fix_ids():
        module = catalogue.fix(name)
        answers = ", ".join(module.ANSWERS) or "`require` only"
        lines.append(f"| [{name}]({name}.md) | {module.TITLE} | {answers} | {module.RISK} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Write or compare; 1 where something differs, or is there and belongs to nothing."""
    os.environ["COLUMNS"] = "98"
    wanted = pages()
    there = {
        str(path.relative_to(ROOT))
        for kind in ("conditions", "fixes")
        for path in (ROOT / "docs" / kind).glob("*.md")
    }
    if "--check" not in sys.argv:
        for name, text in wanted.items():
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text)
        for name in there - set(wanted):
            (ROOT / name).unlink()
        return 0
    stale = [
        name
        for name, text in wanted.items()
        if not (ROOT / name).exists() or (ROOT / name).read_text() != text
    ]
    for name in sorted([*stale, *(there - set(wanted))]):
        print(f"{name}: not what is generated; run '{COMMAND}'")
    return 1 if stale or there - set(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
