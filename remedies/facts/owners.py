"""Other writers of the settings we write: who is here, and what each is known to do.

Nobody announces that it owns a sysctl or a ruleset, so this is knowledge, not a query: a table
of which program writes which setting and when (:mod:`remedies.facts.writers`), and which of these
programs are on this host (:class:`Owners`): told by the names of running processes in this network
namespace, by enabled units, and by configuration files. No second process is started.
"""

from __future__ import annotations

import os
import time
from typing import Optional

from remedies.boot.sysctl_d import assignments, normal
from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.facts.host import read_host
from remedies.facts.writers import CNI, KNOWN, UFW_INIT
from remedies.namespaces import machine
from remedies.values import dataclass


@dataclass(frozen=True)
class Writer:
    """One program on this host that is known to write network settings."""

    name: str
    seen: str
    """How it was told: ``process 812``, ``/etc/ufw/ufw.conf``."""


@dataclass(frozen=True)
class ConfigLine:
    """One line of a program's own configuration that sets a sysctl."""

    writer: str
    path: str
    line: int
    key: str
    """In the form of its path: ``net/ipv4/ip_forward``."""
    value: str


@dataclass(frozen=True)
class Owners:
    """Who else on this host writes network settings."""

    writers: tuple[Writer, ...] = ()
    lines: tuple[ConfigLine, ...] = ()
    unread: tuple[str, ...] = ()


ROOT = machine.ROOT
"""What stands before every path of configuration. Tests point it at a tree of their own."""

_COMMS = {
    "kube-proxy": "kube-proxy",
    "dockerd": "dockerd",
    "cilium-agent": "cilium-agent",
    "calico-node": "calico-node",
    "firewalld": "firewalld",
    "tuned": "tuned",
    "NetworkManager": "NetworkManager",
    "systemd-network": "systemd-networkd",  # comm has 15 bytes
}
_WANTS = ("sysinit.target.wants", "multi-user.target.wants")
_FLUSHERS = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf")
_CNI_FOLDER = "/etc/cni/net.d"
_LIMIT = 1 << 18
"""Characters read of one configuration file."""
_PROFILES = 20
"""tuned profiles that are followed: they include each other."""


def read(asking: Asking) -> Owners:
    """Look at process names, enabled units and configuration files; never raises.

    What could not be looked at in ``asking``'s time is named in ``unread``.
    """
    unread: list[str] = []
    writers = [*_processes(asking.deadline(), unread), *_units(unread)]
    lines: list[ConfigLine] = []
    ufw = _content("/etc/ufw/ufw.conf", unread)
    if any(line.strip().lower() == "enabled=yes" for line in ufw.splitlines()):
        writers.append(Writer("ufw", "/etc/ufw/ufw.conf"))
        lines += _lines("ufw", "/etc/ufw/sysctl.conf", unread)
        settings = _content("/etc/default/ufw", unread).splitlines()
        if any(line.strip() == "MANAGE_BUILTINS=yes" for line in settings):
            writers.append(Writer(UFW_INIT, "MANAGE_BUILTINS=yes in /etc/default/ufw"))
    writers += _networks(unread)
    if any(writer.name == "tuned" for writer in writers):
        for path in _profiles(unread):
            lines += _lines("tuned", path, unread)
    if not os.path.exists(ROOT + "/etc/cloud/cloud-init.disabled"):
        for path in ("/etc/cloud/cloud.cfg", "/var/lib/cloud/instance/user-data.txt"):
            lines += _lines("cloud-init", path, unread)
    return Owners(tuple(writers), tuple(lines), tuple(unread))


def _processes(deadline: float, unread: list[str]) -> list[Writer]:
    """Find known programs of this network namespace among the names of all processes."""
    found: dict[str, Writer] = {}
    here = os.stat("/proc/thread-self/ns/net")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if time.monotonic() > deadline:
            unread.append("processes: /proc took too long to walk")
            break
        try:
            with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
                name = _COMMS.get(file.read(32).rstrip(b"\n").decode("ascii", "replace"))
            if name and name not in found and _lives(pid, here):
                found[name] = Writer(name, f"process {pid}")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended in between
        except OSError as error:
            unread.append(f"/proc/{pid}: {error.strerror}")
    return list(found.values())


def _lives(pid: str, here: os.stat_result) -> bool:
    """Tell whether a process is of our namespace; one that may not be looked at counts."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), here)
    except PermissionError:
        return True


def _units(unread: list[str]) -> list[Writer]:
    """Return the enabled units that rewrite rulesets when they start."""
    found = []
    for unit in ("nftables.service", "netfilter-persistent.service"):
        enabled = any(os.path.lexists(f"{ROOT}/etc/systemd/system/{w}/{unit}") for w in _WANTS)
        if not enabled:
            continue
        if unit == "nftables.service":
            path = next((p for p in _FLUSHERS if "flush ruleset" in _content(p, unread)), "")
            if path:
                found.append(Writer(unit, f"'flush ruleset' in {path}"))
        else:
            found.append(Writer("netfilter-persistent", "an enabled unit"))
    return found


def _networks(unread: list[str]) -> list[Writer]:
    """Tell CNI plugins, which run for moments only, by the networks that they are given."""
    try:
        names = sorted(os.listdir(ROOT + _CNI_FOLDER))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        unread.append(f"{_CNI_FOLDER}: {error.strerror}")
        return []
    found = (name for name in names if name.endswith((".conf", ".conflist", ".json")))
    return [Writer(CNI, f"{_CNI_FOLDER}/{name}") for name in found][:1]


def _profiles(unread: list[str]) -> list[str]:
    """Return the files of tuned's active profiles and of those they include (tuned.conf(5))."""
    names = _content("/etc/tuned/active_profile", unread).split()
    paths: list[str] = []
    for name in names:
        if "/" in name:
            continue
        if len(paths) >= _PROFILES:
            unread.append(f"tuned profiles beyond the first {_PROFILES}")
            break
        folders = ("/etc/tuned", "/etc/tuned/profiles", "/usr/lib/tuned", "/usr/lib/tuned/profiles")
        path = next((p for f in folders if os.path.exists(ROOT + (p := f"{f}/{name}/tuned.conf"))),
                    "")  # fmt: skip
        if not path or path in paths:
            continue
        paths.append(path)
        for line in _content(path, unread).splitlines():
            left, _, right = line.partition("=")
            if left.strip() == "include":
                names += right.replace(",", " ").split()
    return paths


def _content(path: str, unread: list[str]) -> str:
    """Return a small file's text, empty where there is none."""
    try:
        with open(ROOT + path, encoding="utf-8", errors="replace") as file:
            text = file.read(_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        unread.append(f"{path}: {error.strerror}")
        return ""
    if len(text) > _LIMIT:
        unread.append(f"{path}: longer than {_LIMIT >> 10} KiB, the rest")
    return text[:_LIMIT]


def _lines(writer: str, path: str, unread: list[str]) -> list[ConfigLine]:
    """Return what a file sets among the keys of ``net``."""
    return [
        ConfigLine(writer, path, found.line, found.key, found.value)
        for found in assignments(_content(path, unread))
        if found.value is not None and found.key.startswith("net/")
    ]


def matches(pattern: str, address: str) -> bool:
    """Tell whether an address is one of a pattern's, where one ``*`` stands for anything."""
    head, star, tail = pattern.partition("*")
    if not star:
        return address == pattern
    return (
        len(address) >= len(head) + len(tail)
        and address.startswith(head)
        and address.endswith(tail)
    )


def concerning(address: str, owners: Owners) -> tuple[str, ...]:
    """Return a line for each program here that is known to write a resource.

    As ``kube-proxy (process 812) sets it to 1 ...: set conntrack.tcpBeLiberal ... instead``.
    """
    said = [
        f"{writer.name} ({writer.seen}) {known.does}: {known.instead}"
        for writer in owners.writers
        for known in KNOWN
        if known.writer == writer.name and matches(known.pattern, address)
    ]
    key = normal(address.partition(":")[2])
    said += [
        f"{line.writer} sets it to {line.value} ({line.path}:{line.line}): change it there"
        for line in owners.lines
        if address.startswith("sysctl:") and line.key == key
    ]
    return tuple(said)


def suspects(address: str) -> tuple[str, ...]:
    """Look who on this host may have written a resource, for a message; empty where unknown."""
    try:
        owners: Optional[Owners] = read(Asking(host=read_host(), timeout=1.0))
    except (OSError, Unreadable):
        return ()
    return () if owners is None else concerning(address, owners)
