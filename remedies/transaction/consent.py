"""Consent: the value that every writer demands, and the few ways to come by one.

A dry run cannot write, because it has no consent to hand to a writer: every function here that
makes one asks whether this is a dry run, and refuses then. Nothing else can make one.

========== =========================================================================
``how``    who has agreed, and to what
========== =========================================================================
question   a person read the changes and answered ``y``
--yes      the option: whoever typed it needs no question
playbook   a play that runs without ``--check`` (it hands ``--playbook`` to the host)
unattended a policy that allows it, and ``remedy watch --unattended``: a person turned both keys
confirm    ``remedy confirm``: the verb itself is the answer
recovery   nobody was asked now. Whoever began a transaction agreed to all or nothing, and to
           going back when nobody confirms; a writer that died, or a time that is up, is ended
           by its guard, or by the next verb that writes. A dry run reports it and leaves it.
========== =========================================================================

The journal's ``begin`` record holds ``how``.
"""

from __future__ import annotations

from typing import NoReturn, Optional

_KEY = object()
_YES = ("y", "yes")


class Consent:
    """Somebody's agreement to a change. Frozen; made by the functions of this file alone."""

    __slots__ = ("how", "who")
    how: str
    who: str

    def __init__(self, how: str, who: str, key: object) -> None:
        """Raise TypeError for everybody else."""
        if key is not _KEY:
            raise TypeError("a consent comes from a question, --yes or a playbook")
        object.__setattr__(self, "how", how)
        object.__setattr__(self, "who", who)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Raise TypeError: it is what was agreed to."""
        raise TypeError("a consent does not change")

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: no copy, and none from a file."""
        raise TypeError("a consent is not copied")


def answered(answer: str, who: str, *, dry_run: bool) -> Optional[Consent]:
    """Return the consent in an answer to a question; None where it was anything but yes."""
    return _made("question", who, dry_run) if answer.strip().lower() in _YES else None


def stated(option: str, who: str, *, dry_run: bool) -> Optional[Consent]:
    """Return the consent in ``--yes`` or ``playbook`` as the options have it; None without."""
    return _made(option, who, dry_run) if option else None


def played(who: str, *, check: bool) -> Consent:
    """Return the consent of a play, which is a dry run in Ansible's check mode."""
    return _made("playbook", who, check)


def unattended(*, dry_run: bool) -> Consent:
    """Return the consent of a policy and of who started the watch: nobody is there now."""
    return _made("unattended", "watch", dry_run)


def confirmed(who: str, *, dry_run: bool) -> Consent:
    """Return the consent in ``remedy confirm``."""
    return _made("confirm", who, dry_run)


def recovering(*, dry_run: bool) -> Consent:
    """Return what ending a dead writer's transaction rests on: it was agreed to when it began."""
    return _made("recovery", "", dry_run)


def demand(consent: Consent) -> None:
    """Raise TypeError where a writer was handed anything else."""
    if not isinstance(consent, Consent):
        raise TypeError(f"a writer needs a consent, not {consent!r}")


def _made(how: str, who: str, dry_run: bool) -> Consent:
    if dry_run:
        raise TypeError("a dry run has no consent to give")
    return Consent(how, who, _KEY)
