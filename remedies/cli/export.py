"""``remedy export``: a plan and its rollback for tools of other people."""

from __future__ import annotations

import argparse
import json
import os

from remedies.cli import files
from remedies.errors import InputError
from remedies.fleet import export
from remedies.model import FORMAT_VERSION
from remedies.planning import savedplan

EXAMPLES = (("export ansible plan.json -o playbooks", "write apply.yml and rollback.yml"),)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("format", choices=("ansible",), help="for whom")
    parser.add_argument("plan", metavar="PLAN", help="a plan saved with 'plan -o'")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="a new folder")


def run(args: argparse.Namespace) -> int:
    """Write the playbooks and name them."""
    plan = savedplan.read(files.read_file(args.plan, "plan"), args.plan)
    texts = export.playbooks(plan)
    try:
        os.makedirs(args.output, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{args.output}: cannot be made: {error.strerror}", "name another"
        ) from None
    paths = [os.path.join(args.output, name) for name in texts]
    for path, text in zip(paths, texts.values()):
        files.write_file(path, text)
    if args.json:
        plain = {"format_version": FORMAT_VERSION, "kind": "export", "files": paths}
        print(json.dumps(plain, indent=2))
        return 0
    print("\n".join(paths))
    if not args.quiet:
        print(f"\nNext: 'ansible-playbook -i INVENTORY {paths[0]} --check --diff'.")
    return 0
