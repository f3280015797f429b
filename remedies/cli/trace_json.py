"""``remedy trace --json``: one line for all that a trace tells, and one for what it came to."""

from __future__ import annotations

import datetime
import json
from typing import Any, Optional

from remedies import codec
from remedies.netlink.flow import Tuple
from remedies.trace.event import (
    ConversationStep,
    DropEvent,
    Event,
    Interval,
    Sentence,
    Summary,
    Told,
)


class JsonLines:
    """Prints each value as one line, at once."""

    def told(self, told: Told) -> None:
        """Print what a trace tells while it goes on."""
        if isinstance(told, Event):
            _line("trace-event", **_fields(told))
        elif isinstance(told, DropEvent):
            _line("trace-drop", **_drop_fields(told))
        elif isinstance(told, ConversationStep):
            self._step(told)
        elif isinstance(told, Sentence):
            _line("trace-sentence", **_sentence_fields(told))
        else:
            self._more(told)

    def _step(self, step: ConversationStep) -> None:
        _line(
            "trace-step",
            time=_utc(step.time),
            step=step.step,
            message=step.text,
            flow=step.flow,
            rule=step.rule,
        )

    def _more(self, more: Interval) -> None:
        _line(
            "trace-more",
            time=_utc(more.time),
            untold=more.untold,
            packets=more.packets,
            unexamined=more.unexamined,
            lost=more.lost,
        )

    def summary(self, summary: Summary) -> None:
        """Print what it came to."""
        _line(
            "trace",
            seconds=summary.seconds,
            heard=summary.heard,
            proven=summary.proven,
            top=[_fields(event) for event in summary.top],
            unexamined=summary.unexamined,
            lost=summary.lost,
            reasons=summary.reasons,
            reasons_lost=summary.reasons_lost,
            machine_drops=summary.machine_drops,
            drops=[_drop_fields(drop) for drop in summary.drops],
            dropped=summary.dropped,
            drops_lost=summary.drops_lost,
            drops_source=summary.drops_source,
            followed=summary.followed,
            flows=summary.flows,
            unread=summary.unread,
            sentences=[_sentence_fields(said) for said in summary.sentences],
            sentences_lost=summary.sentences_lost,
            findings=[{"id": f.id, **codec.encode(f)} for f in summary.findings],
        )


def _line(kind: str, **values: Any) -> None:
    """Print one line of JSON at once."""
    plain = {"format_version": "1.0", "kind": kind}
    plain.update((name, codec.encode(value)) for name, value in values.items())
    print(json.dumps(plain, separators=(",", ":")), flush=True)


def _fields(event: Event) -> dict[str, Any]:
    """Return the keys that an event has in JSON."""
    return {
        "time": _utc(event.time),
        "event": event.event,
        "protocol": event.protocol,
        **_ends(event.way),
        "peer": event.peer,
        "verdict": "proven" if event.meaning.condition else None,
        "condition": event.meaning.condition,
        "message": event.meaning.text,
        "count": event.count,
        "reason": event.reason,
        "flow": event.flow,
        "process": event.process,
    }


def _drop_fields(drop: DropEvent) -> dict[str, Any]:
    """Return the keys that a drop has in JSON."""
    return {
        "time": _utc(drop.time),
        "reason": drop.reason,
        "message": drop.means,
        "look": drop.look,
        "ordinary": drop.ordinary,
        "protocol": drop.protocol,
        **_ends(drop.way),
        "flags": drop.flags,
        "namespace": drop.namespace,
        "container": drop.container,
        "container_name": drop.container_name,
        "link": drop.link,
        "conntrack": drop.conntrack,
        "place": drop.place,
        "rule": drop.rule,
        "invalid": drop.invalid,
        "about": drop.about,
        "fix": drop.fix,
        "condition": drop.condition or None,
        "count": drop.count,
    }


def _sentence_fields(said: Sentence) -> dict[str, Any]:
    """Return the keys that a sentence of conntrack's has in JSON."""
    return {
        "time": _utc(said.time),
        "message": said.text,
        "protocol": said.protocol,
        **_ends(said.way),
        "flags": said.flags,
        "count": said.count,
    }


def _ends(way: Optional[Tuple]) -> dict[str, Any]:
    """Return the keys of a way; what is no IP packet has null for each."""
    parts = (None,) * 4 if way is None else way.parts
    return dict(zip(("source", "source_port", "destination", "destination_port"), parts))


def _utc(seconds: float) -> str:
    """Return RFC 3339, UTC, to the microsecond."""
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")
