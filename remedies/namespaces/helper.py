"""A process that does one piece of work after the other: what breaks in it ends it alone.

It is forked, so that what is imported already is shared, and works in the namespace it began in.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from remedies.namespaces import child

_MOST = 64 * 1024 * 1024 // os.sysconf("SC_PAGESIZE")
"""Pages that it may grow by. One that grows more is ended, and what it holds is free again."""
_FAILED, _DONE = "!", "="
_LAST, _MORE = ".", ","


class Broken(Exception):
    """There is no answer; the message says why."""

    def __init__(self, why: str, killed_by: int = 0) -> None:
        """``killed_by``: the signal that ended the process, 0 for none."""
        super().__init__(why)
        self.killed_by = killed_by


class Helper:
    """The process. It ends with the thread that started it, also where that is killed."""

    def __init__(self, work: Callable[[str], str]) -> None:
        """Start it, in this namespace, with what it does with each text; raise OSError.

        Signals must wait until it stands where it is ended.
        """
        asked, ask = os.pipe()
        said, say = os.pipe()
        with child.signals_wait() as mask:
            self._pid = child.fork(lambda: _serve(work, asked, say, (ask, said)), mask)
        os.close(asked)
        os.close(say)
        self._questions = os.fdopen(ask, "wb")
        self._answers = os.fdopen(said, encoding="utf-8", newline="\n")
        self.ended = False

    def ask(self, text: str) -> str:
        """Return what it answers to a line of text; raise Broken.

        Look whether it has ``ended`` before the next one.
        """
        try:
            said = self._exchange(text)
        except BaseException:  # nobody would know which question the next answer is to
            self.end()
            raise
        if not said.endswith("\n"):
            number = self.end()
            raise Broken(child.ended_by(number), number)
        if said[1] == _LAST:
            self.end()
        if said[0] == _FAILED:
            raise Broken(said[2:-1])
        return said[2:-1]

    def _exchange(self, text: str) -> str:
        try:
            self._questions.write(f"{text}\n".encode())
            self._questions.flush()
            return self._answers.readline()
        except BrokenPipeError:  # it died before it read that
            return ""

    def end(self) -> int:
        """End it, and return the signal that it ended by; once more is fine."""
        if self.ended:
            return 0
        self.ended = True
        number = child.end(self._pid, self._answers.fileno())
        with contextlib.suppress(BrokenPipeError):  # what it has not read
            self._questions.close()
        self._answers.close()
        return number


def _serve(work: Callable[[str], str], asked: int, say: int, others: tuple[int, ...]) -> None:
    """Be the process."""
    for other in others:
        os.close(other)
    begun = _size()
    answers = os.fdopen(say, "wb")
    for text in os.fdopen(asked, encoding="utf-8", newline="\n"):
        try:
            kind, said = _DONE, work(text[:-1])
        except Exception as error:
            kind, said = _FAILED, " ".join(str(error).split()) or type(error).__name__
        more = _LAST if _size() - begun > _MOST else _MORE
        answers.write(f"{kind}{more}{said}\n".encode("utf-8", "backslashreplace"))
        answers.flush()


def _size() -> int:
    """Return how many pages of memory this process has (proc(5), statm)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1])
