"""The exception tree. Every error a user can meet is one of these, printed as one line.

::

    RemedyError            1   the change was not made, or the question not answered
    +-- UsageError        64   the command line asks for something that does not exist
    +-- InputError        65   a plan, facts or journal file is not what it should be
    +-- NotPermitted      77   the kernel or the file system says no
    +-- ConfigError       78   a policy or the configuration is wrong
    +-- StalePlan          5   what the plan was made from has moved
    +-- Locked             6   another writer, or another confirmation, is in the way
    +-- Unreadable         1   one fact cannot be read: becomes "unknown, because ..."
    +-- WriteFailed        1   one resource could not be written, or did not read back
    +-- Drift              1   a rollback would overwrite a value that is no longer ours

The number is the exit code that ``cli`` uses (README.md has them all).
"""

from __future__ import annotations


class RemedyError(Exception):
    """An error that can be told in one line.

    ``what`` says what went wrong and where (file:line, key, address); ``hint`` says what to do.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        """Return the one line a person reads."""
        return f"{self.what}; {self.hint}" if self.hint else self.what


class UsageError(RemedyError):
    """The command line asks for something that does not exist or does not go together."""

    exit_code = 64


class InputError(RemedyError):
    """A plan, facts or journal file is malformed, too large, too deep, or of another host."""

    exit_code = 65


class NotPermitted(RemedyError):
    """The kernel or the file system does not allow it to this user."""

    exit_code = 77


class ConfigError(RemedyError):
    """A policy or the configuration is wrong; ``what`` names file, line and key."""

    exit_code = 78


class StalePlan(RemedyError):
    """A precondition of the plan has moved; ``what`` says which, from what, to what."""

    exit_code = 5


class Locked(RemedyError):
    """Another writer holds the lock past the time allowed."""

    exit_code = 6


class Unreadable(RemedyError):
    """One fact or one state could not be read; ``what`` is the reason a report shows."""


class WriteFailed(RemedyError):
    """One resource could not be written, or what was read back is not what was written."""


class Drift(RemedyError):
    """A rollback would overwrite a value that somebody else has set since."""
