"""What ``remedy explain`` knows beside conditions and fixes: words and numbers of the output."""

from __future__ import annotations

from typing import get_args

from remedies.model import Risk, Verdict

EXIT_CODES = {
    "0": "nothing to do, or done and verified.",
    "1": "error; nothing was changed. The line says what, where, and what to do.",
    "2": "a finding, drift, or changes pending: 'remedy plan', or 'remedy status'.",
    "3": "apply failed and was rolled back: 'remedy show TXN' says which step.",
    "4": "the rollback is incomplete: 'remedy status' says what is stuck.",
    "5": "the plan is stale: 'remedy plan' again.",
    "6": "another writer, or another confirmation: wait, or 'remedy confirm'.",
    "7": "reverted: not confirmed in time.",
    "8": "something that the policy wants fixed was refused: the refusal says why.",
    "9": "fleet: some hosts were not reached: 'remedy fleet apply --resume RUN'.",
    "64": "usage: 'remedy help VERB'.",
    "65": "bad input data (plan, facts, journal).",
    "70": "internal error: report it with the output of the same command and -vv.",
    "77": "not permitted: run as root.",
    "78": "bad policy or configuration: 'remedy policy check FILE'.",
    "130, 143": "SIGINT, SIGTERM: what was begun is undone.",
}
"""Exit codes to what they say and what to type next."""

TOPICS = {
    "verdicts": (
        "What a finding's first word says",
        """\
- exposed: it could happen; it is not seen now. Rests on rules, sysctls and sockets.
- active: its counters move now. Rests on counters that are read twice within --window.
- proven: it happened to a connection that is named. Rests on a packet or a flow.
- mitigated: it would happen, and a rule or value that is named prevents it.
- unknown: it could not be judged, and the reason is named. It is not "fine".
- absent: it cannot happen here, or nothing of it was seen. Shown with 'scan --show-all'.

'scan' exits 2 from 'active' on; '--fail-on' sets another verdict, '--strict' counts unknown.
""",
    ),
    "risk": (
        "What the risk of a change says",
        """\
The risk is that of the fix, whatever the host. 'remedy explain FIX' says what can go wrong.

- low: changes nothing, or one value that lets more packets pass than before.
- moderate: adds rules that drop, redirect or do not track packets of one kind.
- high: can end connections that work. No fix that remedy ships has it.

What a change costs on this host is said beside it: flows that are lost, kernel memory, and
whether it can cut off the session that applies it (then use --confirm-timeout).
""",
    ),
    "exit-codes": (
        "What an exit code says, and what to type next",
        "".join(f"- {codes}: {text}\n" for codes, text in EXIT_CODES.items()),
    ),
}
"""Name to title and text."""

WORDS = {
    **dict.fromkeys((*get_args(Verdict), "absent"), "verdicts"),
    **dict.fromkeys(get_args(Risk), "risk"),
    **{code: "exit-codes" for codes in EXIT_CODES for code in codes.split(", ")},
}
"""A word or a number of the output to the topic that says what it means."""
