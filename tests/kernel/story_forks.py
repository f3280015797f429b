"""What the lab starts for a story, in forks: to be set in the process that tells it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from forked_cli import Forked

from remedies.lab import story, world


def started(words: Sequence[str], folder: str) -> Forked:
    """Start a command line of a story: by the policy that everybody has, not the tests' own."""
    return Forked(words, folder, env=inspect.unwrap(world.child_environment)())


def by_forks() -> None:
    """Let this process's stories start their command lines so."""
    story.started = started  # type: ignore[assignment]
