"""The next command to run, with the options that select the same host, policy and journal."""

from __future__ import annotations

import argparse
import shlex
from typing import Optional

_CARRIED = (("policy", "--policy"), ("netns", "--netns"), ("state_dir", "--state-dir"))
"""What changes the meaning of the next command. The environment and the file stay as they are."""


def again(args: argparse.Namespace, *words: str, policy: Optional[str] = None) -> str:
    """Return ``remedy WORDS`` with this command line's ``--policy``, ``--netns`` and the like.

    Without them ``remedy plan --policy strict`` would propose to apply another policy. ``policy``
    stands in for the policy of this command line.
    """
    argv = ["remedy", *words, *(("--policy", policy) if policy else ())]
    for name, flag in _CARRIED:
        if name in args.typed and not (policy and name == "policy"):
            value = getattr(args, name)
            for item in value if isinstance(value, list) else [value]:
                argv += [flag, item]
    return shlex.join(argv)
