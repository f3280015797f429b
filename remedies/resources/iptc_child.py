"""The process that writes one legacy chain with python-iptables: an order on stdin, then exit.

It inherits its namespace and imports ``iptc`` only there. The xtables lock (``/run/xtables.lock``,
or ``XTABLES_LOCKFILE``, iptables/xshared.c) is held from before the table is read until it is
committed, so no program that takes it can write in between. Only our chain and the jumps to it
are touched. Exit status: 0 done, 1 refused (stderr says why), 3 python-iptables does not work.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import shlex
import signal
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

UNUSABLE = 3
LOCK_FILE = "/run/xtables.lock"


class ChildRefused(Exception):
    """The order cannot be carried out; the message is the reason."""


@contextlib.contextmanager
def locked(seconds: int) -> Iterator[None]:
    """Hold the xtables lock; raise Refused when it does not come free in ``seconds``."""

    def late(*_: object) -> None:
        raise ChildRefused(f"another program has held {path} for {seconds} s; try again later")

    path = os.environ.get("XTABLES_LOCKFILE") or LOCK_FILE
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        before = signal.signal(signal.SIGALRM, late)
        signal.alarm(seconds)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        yield
    finally:
        os.close(descriptor)


def words_of(line: str) -> tuple[str, list[str]]:
    """Return the chain of an ``-A CHAIN ...`` line, and the words after it."""
    words = shlex.split(line)
    return words[1], words[2:]


def options(words: list[str]) -> Iterator[tuple[str, bool, list[str]]]:
    """Yield option, whether ``!`` stands before it, and its values, as iptables-save writes them.

    ``! -i eth0`` gives ``("-i", True, ["eth0"])``.
    """
    index = 0
    while index < len(words):
        negated = words[index] == "!"
        index += negated
        option = words[index]
        index += 1
        values: list[str] = []
        while index < len(words) and words[index] != "!" and not words[index].startswith("-"):
            values.append(words[index])
            index += 1
        yield option, negated, values


def fill(iptc: Any, rule: Any, words: list[str]) -> None:
    """Put the words of a rule into an empty iptc rule; raise Refused for an unknown option."""
    names = {"-p": "protocol", "-s": "src", "-d": "dst", "-i": "in_interface"}
    names["-o"] = "out_interface"
    module: Any = None
    for option, negated, values in options(words):
        sign = "!" if negated else ""
        if option in names:
            setattr(rule, names[option], sign + values[0])
            if option in ("-i", "-o"):
                whole_names(rule)
        elif option == "-m":
            module = rule.create_match(values[0])
        elif option == "-j":
            module = iptc.Target(rule, values[0])
            rule.target = module
        elif option.startswith("--") and module is not None:
            value: Any = (
                sign + values[0] if len(values) == 1 else [*([sign] if sign else []), *values]
            )
            module.set_parameter(option[2:], value if values else sign)
        else:
            raise ChildRefused(f"cannot write the option {option!r} with python-iptables")


def whole_names(rule: Any) -> None:
    """Let an IPv6 rule compare every bit of an interface name.

    python-iptables 1.0.1 masks each byte with 1 there, so that ``-i br0`` matches ``br2`` too
    (iptc/ip6tc.py, set_in_interface(); the kernel's ifname_compare_aligned()).
    """
    entry = getattr(rule.entry, "ipv6", None)
    for side in ("iniface_mask", "outiface_mask") if entry is not None else ():
        setattr(entry, side, getattr(entry, side).replace(b"\x01", b"\xff"))


def carry_out(iptc: Any, order: dict[str, Any]) -> None:
    """Replace or remove our chain and its jumps; one commit. Raises what iptc raises."""
    six = order["version"] == 6
    kind = iptc.Table6 if six else iptc.Table
    # To tell a chain from a target, the library opens (and so registers) every table it knows.
    kind.ALL = [order["table"]]
    table = kind(order["table"], autocommit=False)
    make_rule = iptc.Rule6 if six else iptc.Rule
    name = order["chain"]
    there = table.is_chain(name)
    wanted = "rules" in order
    if not wanted and not there:
        return
    if there:
        drop_jumps(table, name)
        table.flush_entries(name)
    if not wanted:
        table.delete_chain(name)
    elif not there:
        table.create_chain(name)
    for line in order.get("rules", ()):
        _, words = words_of(line)
        rule = make_rule()
        fill(iptc, rule, words)
        iptc.Chain(table, name).append_rule(rule)
    for line in order.get("jumps", ()):
        owner, words = words_of(line)
        rule = make_rule()
        fill(iptc, rule, words)
        iptc.Chain(table, owner).insert_rule(rule)
    table.commit()


def drop_jumps(table: Any, name: str) -> None:
    """Delete every rule of the table whose target is our chain, and no other."""
    for chain in table.chains:
        entry = table.first_rule(chain.name)
        found = []
        while entry:
            if table.get_target(entry) == name.encode():
                found.append(entry)
            entry = table.next_rule(entry)
        for rule in [table.create_rule(entry, chain) for entry in found]:
            chain.delete_rule(rule)


LIBRARIES = {
    "libip4tc.so": "libip4tc.so.2",
    "libip6tc.so": "libip6tc.so.2",
    "libxtables.so": "libxtables.so.12",
    "c": "libc.so.6",
}
"""What python-iptables looks for, and the name that the loader knows it by."""
EXTENSIONS = ("/usr/lib/*/xtables", "/usr/lib64/xtables", "/usr/lib/xtables")
"""Where distributions put the extensions of iptables (pkg-config --variable=xtlibdir xtables)."""


def know_libraries() -> None:
    """Tell python-iptables where its libraries are.

    By itself it asks ctypes.util.find_library(), which runs ldconfig, and where that does not
    know a name, gcc and ld; and ldconfig once more for the extensions (iptc/xtables.py). And it
    asks distutils for one folder (iptc/util.py), for which setuptools stands in where it is
    installed: that alone takes longer than all else.
    """
    import ctypes.util

    distutils = types.ModuleType("distutils.sysconfig")
    vars(distutils)["get_python_lib"] = lambda: sysconfig.get_path("purelib")
    sys.modules["distutils"] = sys.modules["distutils.sysconfig"] = distutils

    ctypes.util.find_library = LIBRARIES.get  # type: ignore[assignment]
    folders = [folder for pattern in EXTENSIONS for folder in sorted(glob.glob(pattern))]
    if folders:
        os.environ.setdefault("XTABLES_LIBDIR", folders[0])


def main() -> int:
    """Read the order, take the lock, carry it out; return the exit status."""
    order = json.load(sys.stdin)
    try:
        know_libraries()
        import iptc
    except Exception as error:  # its import runs programs and loads libraries: anything can fail
        sys.stderr.write(f"python-iptables: {error}\n")
        return UNUSABLE
    try:
        with locked(order["wait"]):
            carry_out(iptc, order)
    except (ChildRefused, OSError, ValueError, AttributeError, iptc.IPTCError) as error:
        # libiptc's strerror() reaches the message as bytes
        sys.stderr.write(str(error).replace(": b'", ": '") + "\n")
        return 1
    return 0
