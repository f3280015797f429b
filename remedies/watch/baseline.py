"""What a watch knows from one start to the next, kept in the state directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from remedies import codec, private_file
from remedies.errors import Locked, NotPermitted, RemedyError
from remedies.values import dataclass, replace
from remedies.watch.allowance import Done
from remedies.watch.events import Sighting
from remedies.watch.pulse import Pulse

FOLDER = "watch"


@dataclass(frozen=True)
class WatchPlace:
    """A namespace as events name it."""

    key: str
    """``host``, or boot id and cookie: see :func:`remedies.namespaces.netns.key`."""
    netns: str
    """What ``--netns`` takes for it; empty: the one that the watch runs in."""
    name: str
    """Its name in /run/netns, or the path of its name elsewhere; else empty."""
    container: str
    """Names or ids; empty outside of containers."""


@dataclass(frozen=True)
class WatchedNamespace:
    """One namespace as it was known when the baseline was saved."""

    place: WatchPlace
    pulse: Pulse
    seen: tuple[Sighting, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """Everything a watch knew at one time."""

    time: str
    """RFC 3339, UTC; empty: there is none."""
    boot_id: str
    policy: str
    """The digest of the policy it was judged by."""
    namespaces: tuple[WatchedNamespace, ...] = ()
    applied: Done = ()
    """What was applied with nobody there."""


NONE = Baseline("", "", "")


def path(state_dir: str, scope: str) -> str:
    """Return the file of a scope: a namespace's key, or ``all``."""
    return os.path.join(state_dir, FOLDER, f"{scope}.json")


def load(state_dir: str, scope: str, boot_id: str) -> tuple[Baseline, str]:
    """Return what was saved, and why not if a file is there that cannot be used.

    After a restart of the machine counters begin anew, and only the findings count.
    """
    file = path(state_dir, scope)
    content = private_file.read(file)
    if content is None:
        return NONE, ""
    try:
        saved = codec.decode(Baseline, codec.loads(content.decode(), file), file)
    except (RemedyError, UnicodeDecodeError) as error:
        return NONE, f"the saved baseline cannot be used, so a new one is begun: {error}"
    if saved.boot_id != boot_id:
        kept = tuple(_without_pulse(each) for each in saved.namespaces)
        return replace(saved, boot_id=boot_id, namespaces=kept), ""
    return saved, ""


def stop_file(state_dir: str) -> str:
    """Return the file that, while it is there, keeps watches from applying anything."""
    return os.path.join(state_dir, FOLDER, "unattended-stopped")


def save(state_dir: str, scope: str, baseline: Baseline) -> None:
    """Keep a baseline, whole or not at all; who may not write there keeps none."""
    private_file.write(path(state_dir, scope), codec.dumps(baseline))


@contextlib.contextmanager
def alone(state_dir: str, scope: str) -> Iterator[None]:
    """Be the only watch of a scope while the ``with`` block runs. Raises Locked.

    Who may not write to the state directory keeps no baseline, and needs no lock. Raises
    NotPermitted where nobody may: a container that was given no folder for it.
    """
    file = os.path.join(state_dir, FOLDER, f"{scope}.lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
        descriptor = os.open(file, flags, 0o600)
    except OSError as error:
        if error.errno == errno.EROFS:
            raise NotPermitted(
                f"cannot keep what is known in {state_dir}: {error.strerror}",
                "mount a folder there that can be written, or name one with --state-dir",
            ) from error
        yield
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a fork does not hold it
        yield
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: fcntl_locking(2)
        raise Locked(
            f"another 'remedy watch' watches the same and holds {file}",
            "end it, or start this one with another --state-dir",
        ) from None
    finally:
        os.close(descriptor)


def _without_pulse(each: WatchedNamespace) -> WatchedNamespace:
    return WatchedNamespace(each.place, Pulse(), each.seen)
