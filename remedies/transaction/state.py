"""The state directory: one folder per network namespace, root's alone."""

from __future__ import annotations

import os
import stat

from remedies.errors import NotPermitted

DEFAULT = "/var/lib/remedy"


def folder(root: str, key: str) -> str:
    """Return the folder of one namespace's state (``host``, or its key) without making it."""
    return os.path.join(root, key)


def begun(path: str) -> bool:
    """Tell whether there may be a journal: the folder is there, or may not be looked for."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    return True


def prepare(root: str, key: str) -> str:
    """Make the folder of one namespace's state, 0700, and return it.

    Raises NotPermitted where it cannot be made, or where somebody else could have put something
    there: a symlink, another owner, a folder that others can write.
    """
    path = folder(root, key)
    try:
        _check_above(os.path.abspath(root))
        for part in (root, path):
            os.makedirs(part, mode=0o700, exist_ok=True)
            check_private(part)
    except PermissionError as error:
        raise NotPermitted(
            f"cannot make the state directory {error.filename}: {error.strerror}",
            "run as root, or name a folder of your own with --state-dir",
        ) from error
    except OSError as error:
        raise NotPermitted(
            f"cannot make the state directory {error.filename}: {error.strerror}",
            "free space there, or name another with --state-dir",
        ) from error
    return path


def _check_above(path: str) -> None:
    """Raise NotPermitted where somebody else could put another folder in the place of ``path``.

    In a folder with the sticky bit, as /tmp has it, nobody renames what is another's (chmod(2)).
    """
    while path != "/":
        path = os.path.dirname(path)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            continue
        shared = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
        if shared or found.st_uid not in (0, os.geteuid()):
            why = "can be written by others" if shared else f"belongs to user {found.st_uid}"
            raise NotPermitted(
                f"{path}, above the state directory, {why}", "name another with --state-dir"
            )


def check_private(path: str) -> None:
    """Raise NotPermitted unless ``path`` is a real folder of this user that nobody else writes."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotPermitted(f"{path} is not a folder", "remove it, or name another with --state-dir")
    if found.st_uid != os.geteuid():
        raise NotPermitted(
            f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}",
            "give it to the user who runs remedy, or name another with --state-dir",
        )
    if found.st_mode & 0o022:
        raise NotPermitted(f"{path} can be written by others", f"chmod go-w {path}")
