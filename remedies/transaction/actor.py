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


def uid() -> str:
    """Return the real user id of this process: what sudo made of the user."""
    return str(os.getuid())


def command() -> str:
    """Return the command line, cut to 200 characters."""
    return " ".join(["remedy", *sys.argv[1:]])[:200]


def login_uid() -> str:
    """Return the user id that logged in, which sudo and su do not change; empty without one.

    4294967295 is the kernel's "never set": a service, a container (proc(5), /proc/pid/loginuid).
    """
    try:
        with open("/proc/self/loginuid", encoding="ascii") as file:
            number = file.read(16).strip()
    except OSError:
        return ""
    return "" if number == "4294967295" else number


def ssh_from() -> str:
    """Return the address this SSH session came from (sshd(8), SSH_CONNECTION), or nothing."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return words[0][:64] if words else ""
