"""What this kernel, these libraries and these privileges allow: one check a question."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import socket

from remedies.errors import RemedyError
from remedies.facts.host import read_host
from remedies.libraries import how_to_add
from remedies.namespaces import machine
from remedies.resources import nf_tables
from remedies.transaction import state
from remedies.transaction.journal import NAME, latest
from remedies.transaction.ledger import transactions
from remedies.transaction.unowned import unowned
from remedies.values import dataclass


@dataclass(frozen=True)
class Check:
    """One answer."""

    name: str
    state: str
    """``yes``, ``no`` (a verb will fail), or ``optional`` (something is done another way)."""
    detail: str
    hint: str = ""


def checks(state_dir: str) -> tuple[Check, ...]:
    """Ask everything. Changes nothing."""
    return tuple(
        ask()
        for ask in (
            _root,
            _capabilities,
            _nf_tables,
            _libnftables,
            _conntrack,
            _packet_socket,
            _proc_sys,
            _iptables,
            _legacy,
            _python_iptables,
            _pidfd,
            lambda: _state(state_dir),
            lambda: _unowned(state_dir),
        )
    )


def _root() -> Check:
    if os.geteuid() == 0:
        return Check("root", "yes", "may change the host")
    return Check("root", "optional", "not root: apply and rollback are refused", "run as root")


def _capabilities() -> Check:
    missing = ", ".join(each.name for each in machine.missing())
    if not missing:
        return Check("capabilities", "yes", ", ".join(each.name for each in machine.NEEDED))
    return Check("capabilities", "optional", f"without {missing}", "run as root")


def _socket(name: str, family: int, kind: int, protocol: int, what: str) -> Check:
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        hint = "run as root" if error.errno in (errno.EPERM, errno.EACCES) else "not in this kernel"
        return Check(name, "no", f"{what}: {error.strerror}", hint)
    return Check(name, "yes", what)


def _packet_socket() -> Check:
    return _socket(
        "packet socket",
        socket.AF_PACKET,
        socket.SOCK_DGRAM,
        0,
        "sees the resets that the host sends",
    )


def _nf_tables() -> Check:
    try:
        nf_tables.table_exists("inet", "remedy_doctor")
    except RemedyError as error:
        hint = error.hint or "policies use 'backend: iptables' here"
        return Check("nf_tables", "optional", error.what, hint)
    return Check("nf_tables", "yes", "the kernel answers")


def _libnftables() -> Check:
    import ctypes

    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        return Check("libnftables", "no", str(error), "apt-get install libnftables1")
    try:
        import nftables  # noqa: F401
    except ImportError:
        return Check("libnftables", "no", "the binding is missing", how_to_add("nftables"))
    return Check("libnftables", "yes", "library and binding load")


def _conntrack() -> Check:
    path = "/proc/sys/net/netfilter/nf_conntrack_count"
    if os.path.exists(path):
        return Check("conntrack", "yes", "tracks, or can track, connections here")
    return Check("conntrack", "optional", f"no {path}", "modprobe nf_conntrack, where NAT is used")


def _proc_sys() -> Check:
    path = "/proc/sys/net/netfilter"
    if not os.path.isdir(path):
        path = "/proc/sys/net"
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return Check("/proc/sys", "optional", f"{path} is read-only: tcp-be-liberal is refused",
                     "run outside the container")  # fmt: skip
    return Check("/proc/sys", "yes", f"{path} is mounted for writing")


def _tool(name: str, tools: tuple[str, ...], what: str) -> Check:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return Check(name, "optional", f"no {', '.join(missing)}", "apt-get install iptables")
    return Check(name, "yes", what)


def _iptables() -> Check:
    return _tool(
        "iptables (nf_tables)",
        ("iptables-nft-save", "iptables-nft-restore"),
        "reads and writes rules of iptables-nft",
    )


def _legacy() -> Check:
    return _tool(
        "iptables (legacy)",
        ("iptables-legacy-save", "iptables-legacy-restore"),
        "reads and writes legacy tables; run only where one is loaded",
    )


def _python_iptables() -> Check:
    if importlib.util.find_spec("iptc") is None:
        return Check("python-iptables", "optional",
                     "not installed: legacy tables are written by iptables-legacy-restore",
                     how_to_add("iptc"))  # fmt: skip
    return Check("python-iptables", "yes", "writes legacy tables, in a child process")


def _pidfd() -> Check:
    """Linux 5.6: pidfd_getfd, syscall 438 on every architecture."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if release >= (5, 6):
        return Check("pidfd_getfd", "yes", "can see whether a UDP server sets its reply's source")
    return Check("pidfd_getfd", "optional", "needs Linux 5.6: UDP servers stay 'unknown'")


def _state(state_dir: str) -> Check:
    if not os.path.exists(state_dir):
        return Check("state directory", "yes", f"{state_dir} will be made at the first apply")
    if os.geteuid() != 0 and os.stat(state_dir).st_uid == 0:
        reason = f"{state_dir} can be read by root only: what is in force is not known"
        return Check("state directory", "optional", reason, "run as root")
    try:
        state.check_private(state_dir)
    except RemedyError as error:
        return Check("state directory", "no", error.what, error.hint)
    return Check("state directory", "yes", state_dir)


def _unowned(state_dir: str) -> Check:
    name = "rules under our names"
    journal = os.path.join(state.folder(state_dir, read_host().netns), NAME)
    try:
        found = unowned(transactions(latest(journal)))
    except RemedyError as error:
        return Check(name, "optional", error.what, error.hint)
    if found:
        return Check(name, "optional", f"not in this journal: {', '.join(found)}",
                     "'remedy confirm --unowned' adopts them, 'remedy rollback --unowned' "
                     "removes them, unless they are of another --state-dir")  # fmt: skip
    return Check(name, "yes", "all are in this journal")
