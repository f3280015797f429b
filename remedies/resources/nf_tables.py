"""The few nf_tables questions and the one removal that drivers put to the kernel themselves.

Asking by name costs a millisecond where libnftables would be loaded to learn that nothing is
there. The removal needs what libnftables does not send: the generation that the answer was read
from (NFNL_BATCH_GENID), so that nothing changes in between, and NLM_F_NONREC, so that a chain or
table that holds anything else stays. Numbers: include/uapi/linux/netfilter/nf_tables.h and
nfnetlink.h.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator

from remedies.errors import Unreadable, WriteFailed
from remedies.netlink import nft
from remedies.netlink.socket import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    Netlink,
    attribute,
    attributes,
    failure,
    message,
    messages,
)

FAMILIES = {"inet": 1, "ip": 2, "ip6": 10}

_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_GETTABLE, _DELTABLE, _GETCHAIN, _DELCHAIN, _GETRULE, _DELRULE, _GETGEN = 1, 2, 4, 5, 7, 8, 16
_BATCH_BEGIN, _BATCH_END, _BATCH_GENID = 16, 17, 1
_NLM_F_NONREC = 0x100
_TABLE_NAME, _TABLE_USE = 1, 3
_CHAIN_TABLE, _CHAIN_NAME = 1, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 1, 2, 3, 4
_EXPR_NAME, _EXPR_DATA, _IMMEDIATE_DATA, _DATA_VERDICT, _VERDICT_CHAIN = 1, 2, 2, 2, 2
_RETRIES = 10
_PATIENCE = 5.0  # seconds one answer of the kernel's may take
_ABSENT = (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL)
"""No such table or chain; no family of that name; no nf_tables in this kernel (nfnetlink_rcv_msg
answers EINVAL for a subsystem that is not registered)."""


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def _head(family: str, resource: int = 0) -> bytes:
    return struct.pack(">BBH", FAMILIES.get(family, 0), 0, resource)  # struct nfgenmsg


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _open() -> Netlink:
    return Netlink(NETLINK_NETFILTER, time.monotonic() + _PATIENCE)


def _ask(client: Netlink, kind: int, payload: bytes) -> dict[int, bytes] | None:
    """Return the attributes of the one object asked for, None where there is none."""
    try:
        answers = client.request(_SUBSYSTEM << 8 | kind, payload)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise _refused(error) from error
    return dict(attributes(answers[0][1], 4)) if answers else None


def _refused(error: OSError) -> Unreadable:
    permitted = error.errno not in (errno.EPERM, errno.EACCES)
    return Unreadable(
        f"nf_tables: {error.strerror}", "" if permitted else "run as root (CAP_NET_ADMIN)"
    )


def table_exists(family: str, table: str) -> bool:
    """Tell whether a table exists, without loading a ruleset; raise Unreadable."""
    with _open() as client:
        return _table(client, family, table) is not None


def _table(client: Netlink, family: str, table: str) -> dict[int, bytes] | None:
    return _ask(client, _GETTABLE, _head(family) + attribute(_TABLE_NAME, _name(table)))


def chain_exists(family: str, table: str, chain: str) -> bool:
    """Tell whether a chain exists; raise Unreadable."""
    with _open() as client:
        payload = attribute(_CHAIN_TABLE, _name(table)) + attribute(_CHAIN_NAME, _name(chain))
        return _ask(client, _GETCHAIN, _head(family) + payload) is not None


def chains(family: str, table: str) -> tuple[nft.Chain, ...] | None:
    """Return the chains of a table, None where there is no such table.

    Raises Unreadable.
    """
    return _chains(family, table) if table_exists(family, table) else None


def _chains(family: str, table: str) -> tuple[nft.Chain, ...]:
    try:
        found = nft.chains(time.monotonic() + _PATIENCE)
    except OSError as error:
        raise _refused(error) from error
    return tuple(chain for chain in found if (chain.family, chain.table) == (family, table))


def _jumps(client: Netlink, family: str, table: str, chain: str) -> Iterator[tuple[str, bytes]]:
    """Yield chain and handle of every rule of the table that goes to ``chain``."""
    only = _head(family) + attribute(_RULE_TABLE, _name(table))
    wanted = _name(chain)
    try:
        for _, body in client.table(_SUBSYSTEM << 8 | _GETRULE, only):
            if wanted not in body:
                continue
            got = dict(attributes(body, 4))
            if got.get(_RULE_TABLE) != _name(table):
                continue  # kernels before 4.10 do not filter
            if wanted in _targets(got.get(_RULE_EXPRESSIONS, b"")):
                yield got[_RULE_CHAIN].rstrip(b"\0").decode(), got[_RULE_HANDLE]
    except OSError as error:
        raise _refused(error) from error


def _targets(expressions: bytes) -> Iterator[bytes]:
    """Yield the chain of every verdict in a rule's expressions."""
    for _, expression in attributes(expressions):
        got = dict(attributes(expression))
        if got.get(_EXPR_NAME) != b"immediate\0":
            continue
        verdict = dict(attributes(got.get(_EXPR_DATA, b""))).get(_IMMEDIATE_DATA, b"")
        verdict = dict(attributes(verdict)).get(_DATA_VERDICT, b"")
        yield dict(attributes(verdict)).get(_VERDICT_CHAIN, b"")


def remove_chain(family: str, table: str, chain: str, keep: frozenset[str] | None) -> None:
    """Remove a chain of ours and the jumps to it, in one transaction; nothing if it is absent.

    The base chains that jumped to it go too, unless named in ``keep``, as long as they then hold
    no rule and accept. ``keep`` None says that the table was not there before either: it goes
    with its last chain. Raises WriteFailed with the kernel's words, and Unreadable.
    """
    for _ in range(_RETRIES):
        with _open() as client:
            generation = _ask(client, _GETGEN, _head(""))
            parts = tuple(_removal(client, family, table, chain, keep))
        if not parts or generation is None:
            return
        try:
            _commit(generation[1], parts)
        except OSError as error:
            # EBUSY: somebody has put a rule into a chain between our look and our transaction
            # on a kernel without NFNL_BATCH_GENID (before 4.11); ERESTART is its refusal.
            if error.errno in (errno.ERESTART, errno.EBUSY, errno.EAGAIN):
                continue
            raise WriteFailed(f"{family} {table} {chain}: {error.strerror}") from error
        return
    raise WriteFailed(
        f"{family} {table} {chain}: the ruleset changes all the time", "try again later"
    )


def _removal(
    client: Netlink, family: str, table: str, chain: str, keep: frozenset[str] | None
) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, flags and payload of each message of the removal."""
    there = {found.name: found for found in _chains(family, table)}
    if chain not in there:
        return
    jumps = list(_jumps(client, family, table, chain))
    head = _head(family)
    in_table = head + attribute(_RULE_TABLE, _name(table))
    for owner, handle in jumps:
        where = attribute(_RULE_CHAIN, _name(owner)) + attribute(_RULE_HANDLE, handle)
        yield _DELRULE, 0, in_table + where
    yield _DELCHAIN, 0, in_table + attribute(_CHAIN_NAME, _name(chain))
    gone = 1
    for owner in sorted({owner for owner, _ in jumps} - (keep or frozenset())):
        base = there[owner]
        if (
            base.hook is not None
            and base.accepts
            and base.use == sum(name == owner for name, _ in jumps)
        ):
            yield _DELCHAIN, _NLM_F_NONREC, in_table + attribute(_CHAIN_NAME, _name(owner))
            gone += 1
    found = _table(client, family, table)
    if keep is None and found is not None and _number(found.get(_TABLE_USE, b"")) == gone:
        yield _DELTABLE, _NLM_F_NONREC, head + attribute(_TABLE_NAME, _name(table))


def _commit(generation: bytes, parts: tuple[tuple[int, int, bytes], ...]) -> None:
    """Send one batch and hear every answer; raise OSError for the first refusal."""
    edge = _head("", _SUBSYSTEM)
    batch = message(_BATCH_BEGIN, NLM_F_REQUEST, 0, edge + attribute(_BATCH_GENID, generation))
    for number, (kind, flags, body) in enumerate(parts, 1):
        flags |= NLM_F_REQUEST | (NLM_F_ACK if number == len(parts) else 0)
        batch += message(_SUBSYSTEM << 8 | kind, flags, number, body)
    batch += message(_BATCH_END, NLM_F_REQUEST, len(parts) + 1, edge)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as link:
        link.settimeout(_PATIENCE)
        link.send(batch)
        while True:
            for kind, flags, number, body in messages(link.recv(1 << 17)):
                if kind != NLMSG_ERROR:
                    continue
                error = failure(flags, body)
                if error is not None:
                    raise error
                if number == len(parts):
                    return
