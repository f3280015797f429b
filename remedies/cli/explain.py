"""``remedy explain``: what a condition, a fix or a word of the output is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from remedies import catalogue, site
from remedies.cli.starting import load_policy
from remedies.cli.terminal import Style
from remedies.cli.topics import TOPICS, WORDS
from remedies.errors import UsageError
from remedies.model import FORMAT_VERSION
from remedies.trace.drop_reasons import REASONS

EXAMPLES = (
    ("explain tcp-invalid-reset", "a condition: symptom, cause, evidence, fixes"),
    ("explain invalid-drop", "a fix: what it changes, its safety, its rollback"),
    ("explain exposed", "a word of the output: what each verdict says"),
    ("explain 8", "what an exit code says, and what to type next"),
    ("explain IP_RPFILTER", "why the kernel drops a packet, and where to look"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    words = ", ".join((*TOPICS, "a reason of the kernel's"))
    parser.add_argument("id", metavar="ID", help=f"of 'remedy list', or {words}")


def run(args: argparse.Namespace) -> int:
    """Print the documentation of a condition, fix or topic; 64 for an id that does not exist."""
    import difflib
    import inspect

    known = {**dict.fromkeys(catalogue.condition_ids(), "condition"),
             **dict.fromkeys(catalogue.fix_ids(), "fix"),
             **dict.fromkeys(REASONS, "topic"),
             **dict.fromkeys(TOPICS, "topic")}  # fmt: skip
    stated = load_policy(args).rules if site.is_site(args.id) else {}
    known.update((name, "condition") for name in filter(site.is_site, stated))
    args.id = args.id.removeprefix("SKB_DROP_REASON_")
    args.id = WORDS.get(args.id, args.id)
    if args.id not in known:
        near = difflib.get_close_matches(args.id, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "see 'remedy list'"
        raise UsageError(f"no condition, fix, topic or reason is called {args.id!r}", hint)
    kind = known[args.id]
    if args.id in TOPICS:
        title, text = TOPICS[args.id]
    elif args.id in REASONS:
        title, text = f"{args.id}: why the kernel dropped a packet", _reason(args.id)
    elif args.id in stated:
        params = stated[args.id].params
        title, text = site.title(args.id, params), site.text(args.id, params)
    else:
        module = catalogue.condition(args.id) if kind == "condition" else catalogue.fix(args.id)
        title, text = module.TITLE, inspect.cleandoc(module.__doc__ or "")
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": kind,
            "id": args.id,
            "title": title,
            "text": text,
        }
        print(json.dumps(plain, indent=2))
        return 0
    style = Style(args)
    print(style("bold", f"{args.id} ({kind})" if kind != "topic" else title))
    text = text.replace("``", "'")
    if style.width:
        parts = (style.wrap(words, indent) for indent, words in _paragraphs(text))
        lines = [line for part in parts for line in part]
    else:
        lines = text.splitlines()
    for line in lines:
        print(style("bold", line) if line and not line.startswith(" ") else line)
    if not args.quiet and kind != "topic":
        verb = "scan' looks for it" if kind == "condition" else "plan' shows what would change"
        print(f"\nNext: 'remedy {verb} here.")
    return 0


def _reason(name: str) -> str:
    """Return what a reason of the kernel's means and where to look."""
    reason = REASONS[name]
    lines = [f"{reason.means[0].upper()}{reason.means[1:]}."]
    if reason.look:
        lines.append(f"Where to look: {reason.look}")
    if reason.ordinary:
        lines.append("It is part of traffic that works; 'remedy trace' only counts it.")
    return "\n\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """Yield indentation and words of each paragraph; a line of other indentation begins one."""
    before, words = "", ""
    for line in text.splitlines():
        inner = line.lstrip()
        indent = line[: len(line) - len(inner)]
        begins = indent != before or not inner or not words or inner.startswith("- ")
        hangs = indent == before + "  " and words.startswith("- ")  # the rest of a list's entry
        if begins and not (inner and hangs):
            if words:
                yield before, words
            if not inner:
                yield "", ""
            before, words = indent, inner
        else:
            words += f" {inner}"
    if words:
        yield before, words
