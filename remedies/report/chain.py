"""What an audit of the journal's chain says, in the words of a report. Pure."""

from __future__ import annotations

from typing import Optional

from remedies.report.record import Chain
from remedies.transaction.audit import Audit


def described(audit: Audit, head: Optional[str]) -> Chain:
    """Return the chain as the record has it; ``head`` is a hash kept elsewhere, or None."""
    if audit.problems:
        state = "; ".join(str(problem) for problem in audit.problems[:5])
    else:
        state = "intact" if audit.records else "empty"
    if head is None:
        anchor = "not anchored"
    elif audit.anchor:
        later = audit.records - audit.anchor
        anchor = f"anchored at record {audit.anchor}" + (f", {later} after it" if later else "")
    else:
        anchor = (
            "the head kept elsewhere is not in the chain: the newest records were cut off, or it "
            "was rewritten"
        )
    return Chain(audit.records, audit.head, state, anchor, audit.holds(head))
