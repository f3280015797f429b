"""The next command to run, said so that it means the same host, policy and journal."""

from __future__ import annotations

import argparse
import shlex

_CARRIED = (("policy", "--policy"), ("netns", "--netns"), ("state_dir", "--state-dir"))
"""What changes the meaning of the next command. The environment and the file stay as they are."""


def again(args: argparse.Namespace, *words: str) -> str:
    """Return ``remedy WORDS`` with the options of this command line that choose what it is about.

    Without them ``remedy plan --policy strict`` would propose to apply another policy.
    """
    argv = ["remedy", *words]
    for name, flag in _CARRIED:
        if name in args.typed:
            value = getattr(args, name)
            for item in value if isinstance(value, list) else [value]:
                argv += [flag, item]
    return shlex.join(argv)
