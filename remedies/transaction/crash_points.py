"""Named points of a transaction, so that a test can be there when anything goes wrong.

Before and after every record of the journal and every write of a resource :func:`hit` is called.
It does nothing. Tests replace it in a process of their own by something that raises, kills or
blocks; no option, variable or file does.
"""

from __future__ import annotations


def hit(name: str) -> None:
    """Do nothing at the point ``name``: ``before written``, ``after write sysctl:...``."""
