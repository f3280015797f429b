"""What the site conditions of a policy name: sysctls, kernel modules and files.

Which ones is said by topics, each :data:`TOPIC` and a question: ``sysctl:KEY``, ``module:NAME``,
``file:PATH``, or ``file:PATH TEXT`` (is TEXT in it?). Of a file nothing else is kept, so that a
saved fact or a report never holds what is in it.
"""

from __future__ import annotations

import os
import stat
from typing import Optional

from remedies.boot.sysctl_d import normal
from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.namespaces import machine
from remedies.values import dataclass, field

TOPIC = "named:"
LIMIT = 1 << 20
"""Bytes of a file that are looked through; one that is longer is not judged."""
ROOT = machine.ROOT
"""What stands before every path but those of /proc. Tests point it at a tree of their own."""


@dataclass(frozen=True)
class Named:
    """The answers by question; one that is not there has the answer None."""

    values: dict[str, Optional[str]] = field(default_factory=dict)
    """A sysctl's words, one space apart; ``loaded`` or ``built in``; ``there``; ``yes``, ``no``."""
    missing: dict[str, str] = field(default_factory=dict)
    """Questions that could not be answered, with the reason."""

    def get(self, question: str) -> Optional[str]:
        """Return an answer, None for what is not there; raise Unreadable with the reason."""
        if question in self.values:
            return self.values[question]
        raise Unreadable(f"{question}: {self.missing.get(question, 'was not read')}")


def read(asking: Asking) -> Named:
    """Answer every question of the topics; one that cannot be answered is missing."""
    values: dict[str, Optional[str]] = {}
    missing: dict[str, str] = {}
    for topic in sorted(asking.topics):
        if topic.startswith(TOPIC):
            question = topic[len(TOPIC) :]
            scheme, _, rest = question.partition(":")
            if scheme not in _READERS:  # of a policy that was compiled by hand
                missing[question] = "no kind of fact"
                continue
            try:
                values[question] = _READERS[scheme](rest)
            except OSError as error:
                missing[question] = error.strerror or str(error)
            except Unreadable as error:
                missing[question] = str(error)
    return Named(values, missing)


def _sysctl(key: str) -> Optional[str]:
    try:
        with open(f"/proc/sys/{normal(key)}", encoding="utf-8", errors="replace") as file:
            return " ".join(file.read(1 << 16).split())
    except FileNotFoundError:
        return None


def _module(name: str) -> Optional[str]:
    """Tell whether the kernel has a module now.

    What is built in may have no folder in /sys/module: it is in modules.builtin of the running
    kernel (kbuild.rst). Without that file nothing says that it is absent.
    """
    if os.path.isdir(f"{ROOT}/sys/module/{name}"):
        return "loaded"
    path = f"{ROOT}/lib/modules/{os.uname().release}/modules.builtin"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            built_in = any(_named(line) == name for line in file)
    except FileNotFoundError as error:
        what = f"it is not loaded, and {path}, which lists what is built in, is not there"
        raise Unreadable(what) from error
    return "built in" if built_in else None


def _named(line: str) -> str:
    """Return a module's name as the kernel has it, from ``kernel/net/x/y-z.ko``."""
    return os.path.basename(line.strip()).partition(".ko")[0].replace("-", "_")


def _file(rest: str) -> Optional[str]:
    """Tell whether a regular file is there and, with a text, whether the text is in it."""
    path, asks, text = rest.partition(" ")
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(ROOT + path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable("it is not a regular file")
        if not asks:
            return "there"
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise Unreadable(f"it is longer than {LIMIT} bytes")
    return "yes" if text.encode() in content else "no"


_READERS = {"sysctl": _sysctl, "module": _module, "file": _file}
