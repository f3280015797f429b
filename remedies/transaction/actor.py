"""Who is at work: what locks and journals say of the person and the command."""

from __future__ import annotations

import os
import pwd
import sys


def user() -> str:
    """Return the user behind this process: sudo's caller where there is one."""
    name = os.environ.get("SUDO_USER")
    if name:
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def command() -> str:
    """Return the command line, cut to 200 characters."""
    return " ".join(["remedy", *sys.argv[1:]])[:200]
