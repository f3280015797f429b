"""Have conntrack say why it calls packets INVALID, for as long as something is done.

What that takes are settings of the host, so it is a transaction as any other: what was there is on
disk and a guard is armed before the first write. It is never kept: what is done meanwhile takes the
place of its verification, which always fails, so that everything is undone at the end. If the tool
is killed meanwhile, the guard, or the next verb that writes, undoes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Optional

from remedies.errors import RemedyError
from remedies.model import Change
from remedies.netfilter.packet_log import LOGGER, PacketLog
from remedies.operations import recovery, session
from remedies.operations.recovery import Arming
from remedies.operations.session import HostSession, Resources
from remedies.planning.reads import diff
from remedies.transaction import lock
from remedies.transaction import run as transaction
from remedies.transaction.consent import Consent
from remedies.transaction.journal import Journal
from remedies.transaction.run import CheckedChange
from remedies.values import replace

SAYS = "sysctl:net.netfilter.nf_conntrack_log_invalid"
LOGGERS = ("sysctl:net.netfilter.nf_log.2", "sysctl:net.netfilter.nf_log.10")
"""By the number of the family (linux/netfilter.h): who hears it of IPv4, and of IPv6."""
OFF, EVERYTHING = "0", "255"
"""Values of nf_conntrack_log_invalid: nothing; every protocol (nf_conntrack-sysctl.rst)."""
NOBODY = "NONE"
_BY = "trace"
"""What the journal has in place of a fix."""
_ENDED = "the trace has ended"


def while_said(
    here: HostSession,
    agreed: Consent,
    lasting: float,
    lock_timeout: float,
    work: Callable[[PacketLog], int],
) -> int:
    """Return what ``work`` returns, which hears conntrack's sentences for ``lasting`` seconds.

    Raises RemedyError where they cannot be heard, or somebody else hears them; nothing is written
    then. Raises it, too, where something could not be put back.
    """
    with (
        lock.held(here.folder, lock_timeout),
        Journal(here.folder) as journal,
        PacketLog() as heard,
    ):
        here = recovery.recover(session.reread(here), journal)
        changes = tuple(_changes(here.store))
        if not changes:
            return work(heard)
        codes: list[int] = []

        def verify() -> CheckedChange:
            codes.append(work(heard))
            return CheckedChange(_ENDED)

        begin = recovery.begin(here, "apply", changes, agreed)
        # Its guard must not take a trace that hears nothing for a writer that hangs.
        arm = Arming(replace(here, window=lasting))
        done = transaction.apply(here.store, journal, begin, agreed, verify, arm=arm)
    if done.reason != _ENDED:
        raise RemedyError(
            f"conntrack's log could not be switched on: {done.reason}", "see 'remedy status'"
        )
    recovery.whole(done)
    return codes[0]


def _changes(store: Resources) -> Iterator[Change]:
    """Yield what has to be set, loggers first: nothing is to be said that nobody hears.

    Raises RemedyError where conntrack says it to somebody already: they would lack it.
    """
    said = store.read(SAYS)
    if said is None:
        raise RemedyError(
            "conntrack has no nf_conntrack_log_invalid here: nothing is tracked, or its module is "
            "not loaded",
            "go without --invalid",
        )
    for address in LOGGERS:
        logger = store.read(address)
        if logger == LOGGER:
            continue
        if said != OFF and logger not in (None, NOBODY):
            raise RemedyError(
                f"conntrack logs INVALID packets already ({SAYS} is {said}), by {logger}",
                "read them there: 'dmesg -w'",
            )
        yield _change(store, address, logger, LOGGER)
    if said != EVERYTHING:
        yield _change(store, SAYS, said, EVERYTHING)


def _change(store: Resources, address: str, before: Optional[str], after: str) -> Change:
    return Change(
        fix=_BY,
        finding=None,
        resource=address,
        action="update",
        before=before,
        after=after,
        diff=diff(store, address, before, after),
        reversibility="exact",
        risk="low",
        impact="until the trace ends",
    )
