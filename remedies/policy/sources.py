"""Finds and reads policy sources: bytes and their digest, nothing about their meaning."""

from __future__ import annotations

import os
import stat
from typing import Optional

from remedies import shipped
from remedies.errors import ConfigError, RemedyError
from remedies.hashing import sha256
from remedies.values import dataclass

MAX_BYTES = 1 << 20
"""The longest policy file that is read; a real one has a few thousand bytes."""


@dataclass(frozen=True)
class SourcePlace:
    """Where a source is, and what a person calls it."""

    path: str
    """Absolute."""
    label: str
    """As the user gave it; ``policies/NAME.yaml`` for a shipped one, wherever it is installed."""
    shipped: bool


def locate(spec: str, beside: Optional[SourcePlace] = None) -> SourcePlace:
    """Return the place of a shipped name or a file; a relative file is beside ``beside``, or here.

    A name wins over a file of the same name: ``./default`` is the file. Raises ConfigError.
    """
    if "/" not in spec:
        try:
            known = shipped.policies()
        except RemedyError:  # a bundle: no names, files still work
            known = {}
        if spec in known:
            return SourcePlace(known[spec], f"policies/{spec}.yaml", True)
    else:
        known = {}
    if beside is None:
        place = SourcePlace(os.path.abspath(spec), spec, False)
    else:
        path = os.path.join(os.path.dirname(beside.path), spec)
        label = os.path.join(os.path.dirname(beside.label), spec)
        place = SourcePlace(os.path.abspath(path), label, False)
    if not os.path.exists(place.path):
        raise ConfigError(*_absent(spec, place, known))
    return place


def anywhere(spec: str) -> str:
    """Return a source as it is found from any folder: a file by its whole path, a name as it is."""
    return os.path.abspath(spec) if "/" in spec or os.path.exists(spec) else spec


def _absent(spec: str, place: SourcePlace, known: dict[str, str]) -> tuple[str, str]:
    """Return what is missing, and the nearest shipped name or all of them."""
    if "/" in spec or spec.endswith((".yaml", ".yml")):
        return f"{place.label}: no such policy file", "check the path"
    import difflib  # lazy: only for a message

    near = difflib.get_close_matches(spec, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"shipped policies: {', '.join(known)}"
    return f"{spec}: neither a shipped policy nor a file", hint


def read(place: SourcePlace) -> bytes:
    """Return a source's bytes. Raises ConfigError where it must not or cannot be read.

    Root takes no orders from a file that others may write. A shipped policy is as trustworthy as
    the program beside it, whoever owns the checkout, so only other files are judged.
    """
    try:
        # O_NONBLOCK: a FIFO must not hang the open; what is not a file is refused below.
        descriptor = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(
            f"{place.label}: cannot read the policy: {error.strerror}", "check path and mode"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{place.label}: not a regular file", "give a policy file")
        if os.geteuid() == 0 and not place.shipped:
            trusted(place.path, place.label, status)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{place.label}: cannot read the policy: {error.strerror}", "give a policy file"
        ) from error
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{place.label}: larger than {MAX_BYTES >> 20} MiB", "policies are short files"
        )
    return data


def trusted(path: str, label: str, status: os.stat_result, what: str = "policy") -> None:
    """Refuse what root would obey and somebody else can change: a policy, a plan, the settings.

    ``status`` is of the open file; a symbolic link to it must be root's own. A second name (hard
    link) is refused: it may be where others write. Raises ConfigError.
    """
    mode = stat.S_IMODE(status.st_mode)
    link = os.lstat(path)
    if stat.S_ISLNK(link.st_mode) and link.st_uid != 0:
        raise ConfigError(
            f"{label}: a link owned by user {link.st_uid}; root follows only its own links",
            "give the file",
        )
    if status.st_uid != 0:
        raise ConfigError(
            f"{label}: owned by user {status.st_uid}, and root accepts no {what} of other users",
            f"chown root {label}",
        )
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{label}: mode {mode:04o} lets others write the {what} that root obeys",
            f"chmod go-w {label}",
        )
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise ConfigError(
            f"{label}: has {status.st_nlink} names (hard links), so others may write it",
            "give a copy",
        )


def digest(data: bytes) -> str:
    """Return the SHA-256 (hex) of a source."""
    return sha256(data).hexdigest()
