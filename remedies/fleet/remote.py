"""The talk with one host: the bundle over SSH, one command, one JSON answer.

What carries a command to the host is the caller's (:class:`Carrier`); Ansible's connection in
real life. Nothing here trusts the answer: it comes from another machine.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional, Protocol

from remedies import codec
from remedies.bundle import build
from remedies.errors import InputError
from remedies.model import Change
from remedies.printable import clean

BUNDLE_WANTED = 86
"""The exit code of ``start/launch.py`` where the bundle is not on the host."""
_SHOWN = 200
"""Characters of a host's own words that a message quotes."""


class HostLost(Exception):
    """The host cannot be reached, or the connection broke while a command was running."""


@dataclass(frozen=True)
class Reply:
    """What a command said, unread."""

    rc: int
    out: str
    err: str


class Carrier(Protocol):
    """Runs one command on the host."""

    def __call__(self, command: str, stdin: bytes) -> Reply:
        """Run ``command`` (for ``sh -c``) with this standard input; raise Lost."""


@dataclass(frozen=True)
class Answer:
    """What remedy on the host said."""

    rc: int
    """Its exit code; 1 where it said nothing that can be understood."""
    plain: dict[str, Any]
    """The JSON it printed; empty where it failed before that."""
    message: str = ""
    """One line of what went wrong, fit to be shown."""
    changes: tuple[Change, ...] = ()
    """The changes that the JSON speaks of."""
    understood: bool = True
    """False: it began, and what it printed is not remedy's. What it did cannot be told."""


_OBJECTS = ("findings", "unknown", "in_force", "changes", "refused", "verified")
"""Keys of an answer whose values are lists of objects, in whichever document they are."""

_MOST = 1000
"""Objects of one key: Ansible hands on no result that holds several times as many."""


@dataclass(frozen=True)
class RemoteHost:
    """One host, and what is needed to run remedy there."""

    carrier: Carrier
    bundle_path: str
    digest: str
    folder: str
    """The folder on the host that keeps bundles; ``~`` is the login's home."""
    python: str = "python3"

    def ask(self, words: Sequence[str], stdin: str = "") -> Answer:
        """Run one verb with ``--json``; bring the bundle first where it is not there.

        ``stdin``: the documents that each ``-`` among the words takes. Raises HostLost, or
        RemedyError where the kept bundle is damaged.
        """
        # Ansible asks for a terminal where there is nothing to send, and a terminal mixes the
        # host's two streams into one.
        stdin = stdin or "\n"
        reply = self.carrier(self._command(0, words), stdin.encode())
        if reply.rc == BUNDLE_WANTED:
            data = build.kept(self.bundle_path)
            reply = self.carrier(self._command(len(data), words), data + stdin.encode())
        return self._understood(reply)

    def _command(self, size: int, words: Sequence[str]) -> str:
        start = [self.python, "-I", "-S", "-c", _launch(), self.digest, self.folder, str(size)]
        return shlex.join([*start, *words, "--json"])

    def _understood(self, reply: Reply) -> Answer:
        _, marker, said = reply.out.partition(f"remedy {self.digest}\n")
        if not marker:
            return Answer(reply.rc if reply.rc in (1, 126, 127) else 1, {}, self._silence(reply))
        message = _message(reply.err)
        if not said.strip():
            return Answer(reply.rc or 1, {}, message or "no output from remedy on the host")
        try:
            plain = codec.loads(said, "answer")
        except InputError as error:
            return _garbled(clean(str(error)))
        if not isinstance(plain, dict) or not isinstance(plain.get("kind"), str) or _odd(plain):
            return _garbled(_quoted(said))
        if plain["kind"] == "error":
            return Answer(reply.rc or 1, {}, message or _quoted(str(plain.get("message"))))
        for key in _OBJECTS:
            if len(plain.get(key) or ()) > _MOST:
                return Answer(1, {}, f"the host's answer holds {len(plain[key])} of {key}, and "
                                     f"at most {_MOST} are accepted; run remedy there",
                              understood=False)  # fmt: skip
        try:
            changes = codec.decode(tuple[Change, ...], plain.get("changes") or [], "changes")
        except InputError as error:
            return _garbled(clean(str(error)))
        return Answer(reply.rc, plain, message if reply.rc else "", changes)

    def _silence(self, reply: Reply) -> str:
        """Say why remedy never spoke."""
        message = _message(reply.err)
        if message and "remedy: " in reply.err:
            return message
        if reply.rc in (126, 127):
            return (
                f"no {self.python} can be run there ({_quoted(reply.err or reply.out)}); "
                "install python3, or set ansible_python_interpreter"
            )
        said = _quoted(reply.err) if reply.err.strip() else _quoted(reply.out)
        return f"the host answers {said} (exit {reply.rc}) where remedy was started"


def _garbled(why: str) -> Answer:
    return Answer(1, {}, f"the host's answer is not remedy's: {why}", understood=False)


def _odd(plain: dict[str, Any]) -> bool:
    """Tell whether something that every document has as a list of objects is none."""
    lists = (plain.get(key) for key in _OBJECTS)
    return any(
        found is not None
        and not (isinstance(found, list) and all(isinstance(item, dict) for item in found))
        for found in lists
    )


@functools.lru_cache(maxsize=1)
def _launch() -> str:
    return build.start_text("launch")


def _message(err: str) -> str:
    """Return the line of standard error that says what went wrong: the last one that is ours."""
    ours = [line[len("remedy: ") :] for line in err.splitlines() if line.startswith("remedy: ")]
    return clean(ours[-1]) if ours else ""


def _quoted(text: str) -> str:
    line = " ".join(clean(text).split())
    return repr(line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "...")


def documents(*texts: Optional[str]) -> str:
    """Return standard input with each document on a line, those that are None left out."""
    return "".join(f"{text.strip()}\n" for text in texts if text is not None)
