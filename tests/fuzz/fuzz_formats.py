"""Every format that the tool reads, each as one function of bytes, for the fuzzers of this folder.

A function returns where the bytes are a value, or raises an error of ``remedies.errors``: one
line and an exit code. Anything else that comes out of it is a bug.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from remedies import policy
from remedies.boot import sysctl_d, units
from remedies.cli import files, render, settings
from remedies.cli.terminal import Style
from remedies.errors import RemedyError, Unreadable
from remedies.facts import counters, docker, oneway, owners, saved
from remedies.facts import session as ssh
from remedies.model import Policy, Wanted
from remedies.namespaces import cgroups, containers
from remedies.netfilter import expressions, legacy, packet_log, sets, xt
from remedies.netlink import conntrack_entry, conntrack_stats, diag, ipset, nft, route
from remedies.netlink import socket as netlink
from remedies.planning import engine, savedplan
from remedies.planning import plan as planning
from remedies.policy import compile as compiler
from remedies.resources import xtables
from remedies.rules import decoded, nft_syntax, ours, restore_script
from remedies.tap import packets
from remedies.trace import reasons
from remedies.transaction import audit, journal, ledger, lock, undofile
from remedies.values import replace

Read = Callable[[bytes], object]


@cache
def _folder() -> Path:
    """Return a folder of this process's own; it goes with the process."""
    made = tempfile.TemporaryDirectory(prefix="remedy-fuzz-")
    _KEPT.append(made)
    return Path(made.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@contextlib.contextmanager
def _file(name: str, data: bytes) -> Iterator[Path]:
    path = _folder() / name
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        yield path
    finally:
        path.unlink()


@cache
def default() -> Policy:
    return policy.load()


STYLE = Style(Namespace(plain=True, no_color=True, json=False))


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def policy_yaml(data: bytes) -> object:
    with _file("p.yaml", data) as path:
        return compiler.compile_policy((str(path),)).policy


def policy_compiled(data: bytes) -> object:
    return policy.from_compiled(_text(data), "compiled")


def plan(data: bytes) -> object:
    with _file("plan.json", data) as path:
        made = savedplan.read(files.read_file(str(path)), "plan")
    told = render.plan_text(made, STYLE, verbose=1)
    assert not any(not (c.isprintable() or c in "\n\t") for c in told)
    return undofile.script("20260101-000000-aaaa", "host", made.changes)


class _Nothing:
    """Reads of a host that has nothing of ours."""

    def read(self, address: str) -> str | None:
        del address
        return None

    def same(self, address: str, one: str | None, other: str | None) -> bool:
        del address
        return one == other

    def text(self, address: str, state: str | None) -> str:
        del address
        return state or ""

    def check(self, address: str, state: str | None) -> None:
        del address, state


def facts(data: bytes) -> object:
    """Read facts, and judge them as ``scan --facts`` and a plan made from them do."""
    known = saved.from_json(_text(data), "facts")
    scanned = engine.scan(default(), known)
    made = planning.plan(default(), known, scanned, {}, _Nothing())
    told = render.plan_text(made, STYLE, verbose=1)
    assert not any(not (c.isprintable() or c in "\n\t") for c in told)
    return made


def journal_file(data: bytes) -> object:
    with _file(journal.NAME, data) as path:
        audit.verify(str(path))
        found = ledger.transactions(journal.latest(str(path)))
        held = ledger.in_force(found), ledger.unfinished(found), ledger.to_roll_back(found)
        with journal.Journal(str(path.parent)) as opened:
            opened.append("torn", "", {})
        return held


def journal_segments(data: bytes) -> object:
    """Cut the bytes into two segments, as a rotated journal has them."""
    half = data.find(b"\n", len(data) // 2) + 1
    with _file(journal.NAME, data[:half]) as path, _file("journal-000000000002.jsonl", data[half:]):
        audit.verify(str(path))
        return ledger.in_force(ledger.transactions(journal.latest(str(path))))


def lock_card(data: bytes) -> object:
    with _file("lock", data) as path:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return lock._holder(descriptor)
        finally:
            os.close(descriptor)


def configuration(data: bytes) -> object:
    with _file("remedy.conf", data) as path:
        before, settings.FILE = settings.FILE, str(path)
        try:
            settings.fill(Namespace())
            return None
        finally:
            settings.FILE = before


def next_document(data: bytes) -> object:
    files._DOCUMENTS[:] = [_text(data)]
    try:
        return files.next_document(), files.next_document()
    finally:
        files._DOCUMENTS.clear()


def iptables_state(data: bytes) -> object:
    path, text = "mangle/REMEDY-INVALID", _text(data)
    ours.iptables_sections(text)
    xtables._checked("mangle", "REMEDY-INVALID", text)
    return xtables.text(path, text)


def iptables_undo(data: bytes) -> object:
    return restore_script.jumps_in(_text(data).splitlines(), "REMEDY-INVALID")


def iptables_boot(data: bytes) -> object:
    wanted = Wanted(resource="iptables:mangle/REMEDY-INVALID", state=_text(data))
    return units.boot_files("invalid-drop", (wanted,))


def nft_state(data: bytes) -> object:
    path, text = "inet/remedy_invalid_drop", _text(data)
    restore_script.nft_batch(path, text)
    return nft_syntax.nft_text(text)


def ssh_connection(data: bytes) -> object:
    return ssh.parse(_text(data)), ssh.nameservers(_text(data))


def cgroup(data: bytes) -> object:
    return cgroups.placement(_text(data))


def proc_counters(data: bytes) -> object:
    text, found = _text(data), []
    for read in (
        counters.conntrack_rows,
        lambda t: counters.paired_lines(t, counters.SNMP),
        lambda t: counters.paired_lines(t, counters.NETSTAT),
        lambda t: counters.single_lines(t, counters.SNMP6),
    ):
        with contextlib.suppress(Unreadable):
            found.append(read(text))
    return found


def sysctl_file(data: bytes) -> object:
    source = sysctl_d.Source("/etc/sysctl.d/1.conf", _text(data))
    decided = sysctl_d.decides("net.ipv4.ip_forward", [source])
    return decided, owners.matches(_text(data), "sysctl:a.b")


def trace_text(data: bytes) -> object:
    text = _text(data)
    return reasons.parse(text), reasons.fields(text), reasons.number_of(text, "NO_SOCKET")


def container_names(data: bytes) -> object:
    return containers.parse(data), docker.parse(data)


def netlink_datagram(data: bytes) -> object:
    for _, flags, _, payload in netlink.messages(data):
        netlink.failure(flags, payload)
    return True


def _each(*reads: Read) -> Read:
    def run(data: bytes) -> object:
        for read in reads:
            with contextlib.suppress(Unreadable):
                read(data)
        return True

    return run


def packet(data: bytes) -> object:
    for outgoing in (False, True):
        made = packets.key(data, outgoing)
        if made is not None:
            packets.spell(made)
    return oneway.way_of(data)


def _elements(_: str) -> list[nft.Element]:
    return [nft.Element(b"\x0a\0\0\1", b"\x0a\0\0\x09", b""), nft.Element(b"\1\2", b"\1\3", b"x")]


def nft_rule(data: bytes) -> object:
    found = [expressions.decode(data, f, _elements) for f in ("ip", "ip6", "inet")]
    return found, nft.comment_of(data)


def nft_elements(data: bytes) -> object:
    raw = []
    for key, value in netlink.attributes(data):
        raw.append((value[:8], value[8:] or None, b"", key & 1))
    return nft._ranges(raw, "set")


def ipset_listing(data: bytes) -> object:
    held = ipset.decode("s", [b"\2\0\0\0" + data], 100)
    return [sets.alternatives(sets.NO_SETS, held, (True, False, True), f) for f in ("ip", "ip6")]


MATCHES = (
    "tcp", "udp", "multiport", "conntrack", "state", "addrtype", "iprange", "comment", "mark",
    "set",
)  # fmt: skip
TARGETS = ("CT", "NOTRACK", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "REJECT", "LOG")


def xt_blob(data: bytes) -> object:
    """Read the bytes as every match and target in every revision."""
    for family in ("ip", "ip6"):
        for revision in range(5):
            for name in MATCHES:
                with contextlib.suppress(Unreadable):
                    xt.narrow(decoded.MatchTerms(), name, revision, data, family)
            for name in TARGETS:
                with contextlib.suppress(Unreadable):
                    xt.target(name, revision, data, family)
    return True


def legacy_table(data: bytes) -> object:
    """Read the bytes as the entries of a table whose chain begins at their start."""
    for family in ("ip", "ip6"):
        with contextlib.suppress(Unreadable):
            table = legacy.Table(family, "filter", data, {0: 0}, {0: len(data) // 2}, {})
            table = replace(table, chains=legacy._chains(family, data))
            legacy.accepts(table, 0)
            for entry in legacy.rules(table, 0):
                legacy.targets(table, entry)
                legacy.narrow(family, entry)
                legacy.decode(table, entry)
    return True


FORMATS: dict[str, Read] = {
    read.__name__: read
    for read in (
        policy_yaml, policy_compiled, plan, facts, journal_file, journal_segments, lock_card,
        configuration, next_document, iptables_state, iptables_undo, iptables_boot, nft_state,
        ssh_connection, cgroup, proc_counters, sysctl_file, trace_text, container_names,
        netlink_datagram, packet, nft_rule, nft_elements, xt_blob, legacy_table,
        ipset_listing,
    )
}  # fmt: skip
FORMATS["conntrack_entry"] = _each(
    conntrack_entry.entry, conntrack_entry.service, conntrack_stats.cpu_counters
)
FORMATS["socket_entry"] = _each(diag.wildcard, diag.tcp_or_udp)
FORMATS["route_messages"] = _each(
    route.link, route.address, route.default_route, route.route, route.rule
)
FORMATS["logged_packet"] = packet_log.sentence_of
FORMATS["nft_chain"] = lambda data: nft.chain(b"\1\0\0\0" + data)

KERNEL = frozenset(
    ("netlink_datagram", "packet", "nft_rule", "nft_elements", "xt_blob", "legacy_table",
     "conntrack_entry", "socket_entry", "route_messages", "nft_chain", "ipset_listing",
     "logged_packet")
)  # fmt: skip
"""Formats that are attributes and structs, not text."""


def outcome(name: str, data: bytes) -> str:
    """Read ``data`` as one format; return ``value``, or the error's one clear line.

    Lets through whatever is neither.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            FORMATS[name](data)
    except RemedyError as error:
        said, code = str(error), error.exit_code
    else:
        return "value"
    assert said, f"exit {code}, and no word"
    assert code in (1, 5, 6, 64, 65, 77, 78), said
    return said
