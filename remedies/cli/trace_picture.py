"""``remedy trace --packet ... -o svg:FILE``: the conversation that was followed, as a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Optional

from remedies.cli import files
from remedies.errors import RemedyError, UsageError
from remedies.report import conversation, sheet
from remedies.report.pictures.shapes import Path
from remedies.trace.event import ConversationStep, Summary, Told
from remedies.trace.packet_filter import PacketFilter

FORMATS: dict[str, Callable[[Path, Iterable[str]], Iterator[str]]] = {
    "html": sheet.html,
    "svg": sheet.svg,
}
_EXAMPLE = "for example svg:trace.svg"


class PictureFiles:
    """Remembers the steps of a conversation; draws it when the trace has ended."""

    def __init__(self, words: Iterable[str], wanted: Optional[PacketFilter]) -> None:
        """Take what ``-o`` names. Raises UsageError or RemedyError; writes nothing yet."""
        self._files = [_output(text) for text in words]
        self._wanted = wanted or PacketFilter()
        self._steps: list[ConversationStep] = []
        if self._files and wanted is None:
            raise UsageError("-o draws one conversation", "name it with --packet")

    def told(self, told: Told) -> None:
        """Remember a step; drops and refusals are in the summary."""
        if isinstance(told, ConversationStep) and self._files:
            self._steps.append(told)

    def summary(self, summary: Summary) -> None:
        """Write every file, whole or not at all. Raises RemedyError."""
        if not self._files:
            return
        path, notes = conversation.draw(self._wanted, self._steps, summary)
        for name, file in self._files:
            pieces = FORMATS[name](path, notes)
            files.write_pieces(file, (piece.encode() for piece in pieces))


def _output(text: str) -> tuple[str, str]:
    name, file = files.format_and_file(text, _EXAMPLE)
    if name not in FORMATS:
        raise UsageError(f"no picture format {name!r}", f"known: {', '.join(FORMATS)}")
    if file == "-":
        raise UsageError("standard output has the trace's lines", _EXAMPLE)
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder):
        raise RemedyError(f"{file}: no such folder: {folder}", "make it, or name another")
    return name, file
