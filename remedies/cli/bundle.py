"""``remedy bundle``: the host side as one file that any Python from 3.9 on runs."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex

from remedies import __version__
from remedies.bundle import build
from remedies.cli import files
from remedies.model import FORMAT_VERSION

EXAMPLES = (("bundle -o remedy.pyz", "write the tool into one file, to copy to a host"),)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="remedy.pyz", help="(default: remedy.pyz)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the file and print its SHA-256."""
    data = build.build()
    digest = hashlib.sha256(data).hexdigest()
    files.write_bytes(args.output, data, mode=0o755)
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "bundle",
            "tool": {"name": "remedy", "version": __version__},
            "file": args.output,
            "bytes": len(data),
            "sha256": digest,
        }
        print(json.dumps(plain, indent=2))
        return 0
    print(f"{digest}  {args.output}")
    if not args.quiet:
        name = os.path.basename(args.output)
        print(f"\nNext: scp {shlex.quote(args.output)} HOST: && "
              f"ssh HOST python3 {shlex.quote(name)} plan")  # fmt: skip
    return 0
