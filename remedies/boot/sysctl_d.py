"""Which file and line decide a sysctl at the next boot, in systemd-sysctl's order.

The rules are those of sysctl.d(5) and of systemd's src/sysctl/sysctl.c:

* of files with one name, that in the folder named first in :data:`FOLDERS` counts, and a link to
  /dev/null or an empty file masks the others;
* files are read in the order of their names, whatever their folder, and the last line wins;
* a key in which the first separator is a slash is taken as it is, else dots separate and slashes
  stand for dots; ``-key = value`` overlooks a failure to write it;
* a pattern (``net.ipv4.conf.*.rp_filter``) sets what no line sets by name, and ``-key`` without a
  value keeps patterns away from it; of several patterns the last one wins.

/etc/sysctl.conf is not read but through a link: Debian's /etc/sysctl.d/99-sysctl.conf. Without
systemd, procps' ``sysctl --system`` reads it after everything else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Optional

from remedies.boot import drop_ins
from remedies.namespaces import machine
from remedies.values import NamedTuple

FOLDERS = (
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
    "/lib/sysctl.d",
)
ROOT = machine.ROOT
"""What stands before every path. Tests point it at a tree of their own."""

_LIMIT = 1 << 20
_GLOB = frozenset("*?[")


class Assignment(NamedTuple):
    """One line of a sysctl.d file."""

    line: int
    key: str
    """In the form of its path: ``net/ipv4/conf/eth0.1/rp_filter``."""
    value: Optional[str]
    """None: the line keeps patterns away from the key."""


class Source(NamedTuple):
    """One file that is read at boot, in its turn."""

    path: str
    text: str


class Decision(NamedTuple):
    """What a key is set to at the next boot, and where that is written."""

    value: str
    path: str
    line: int
    pattern: str = ""
    """The pattern that covers the key, where no line names it."""


def normal(key: str) -> str:
    """Return a key in the form of its path (``sysctl_normalize()`` of systemd)."""
    dot, slash = key.find("."), key.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        key = key.translate({ord("."): "/", ord("/"): "."})
    return "/".join(part for part in key.split("/") if part)


def assignments(text: str) -> Iterator[Assignment]:
    """Yield what a sysctl.d file says, line by line; lines that say nothing are left out."""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        key, equals, value = line.partition("=")
        if not equals and not line.startswith("-"):
            continue
        key = normal((key[1:] if key.startswith("-") else key).strip())
        if key:
            yield Assignment(number, key, value.strip() if equals else None)


def decides(key: str, sources: Iterable[Source]) -> Optional[Decision]:
    """Return what sets ``key`` (dotted or as a path) last, None where nothing does."""
    wanted = normal(key)
    named: Optional[Decision] = None
    covered: Optional[Decision] = None
    kept_away = False
    for source in sources:
        for found in assignments(source.text):
            if found.key == wanted:
                kept_away = found.value is None
                named = (
                    None if found.value is None else Decision(found.value, source.path, found.line)
                )
            elif found.value is not None and _covers(found.key, wanted):
                covered = Decision(found.value, source.path, found.line, found.key)
    if named is not None or kept_away:
        return named
    return covered


def _covers(pattern: str, key: str) -> bool:
    """Tell whether a pattern matches a key; as in glob(3), ``*`` stays within one part."""
    if not _GLOB & set(pattern):
        return False

    one, other = pattern.split("/"), key.split("/")
    return len(one) == len(other) and all(map(fnmatchcase, other, one))


def sources() -> tuple[Source, ...]:
    """Return the files that are read at the next boot, in that order; raise OSError.

    A file that cannot be read by this user raises PermissionError: what it says is not known.
    """
    paths = drop_ins.chosen(FOLDERS, ROOT)
    if not os.path.isdir(ROOT + "/run/systemd/system"):  # sd_booted(3)
        paths.append("/etc/sysctl.conf")
    return tuple(Source(path, text) for path in paths if (text := _text(path)))


def _text(path: str) -> str:
    """Return a file's text; a link that leads nowhere is an empty file to systemd-sysctl."""
    try:
        with open(ROOT + path, encoding="utf-8", errors="replace") as file:
            return file.read(_LIMIT)
    except (FileNotFoundError, IsADirectoryError):
        return ""
