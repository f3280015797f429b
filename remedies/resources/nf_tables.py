"""The few nf_tables questions and the removals that drivers put to the kernel themselves.

Asking by name costs a millisecond where libnftables would be loaded to learn that nothing is there.
A removal from others' tables needs what libnftables does not send: the generation that was read
(NFNL_BATCH_GENID), so that nothing changes in between, and NLM_F_NONREC, so that what holds
anything else stays. Numbers: include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Generator, Iterator
from itertools import zip_longest

from remedies.errors import Unreadable, WriteFailed
from remedies.netlink import nft
from remedies.netlink.socket import (
    NETLINK_NETFILTER,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    Interrupted,
    Netlink,
    attribute,
    attributes,
    failure,
    message,
    messages,
)
from remedies.resources.xt_compat import compat

FAMILIES = {"inet": 1, "ip": 2, "ip6": 10}

_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN = 0, 1, 2, 3, 4, 5
_NEWRULE, _DELRULE, _GETGEN = 6, 8, 16
_BATCH_BEGIN, _BATCH_END, _BATCH_GENID = 16, 17, 1
_NLM_F_NONREC, _NLM_F_CREATE, _NLM_F_APPEND = 0x100, 0x400, 0x800
_TABLE_NAME, _TABLE_FLAGS, _TABLE_USE, _CHAIN_TABLE, _CHAIN_NAME = 1, 2, 3, 1, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 1, 2, 3, 4
_RULE_USERDATA = 7
_LOOKS = 5  # how often a chain is read anew that changes while it is read
_EXPR_NAME, _EXPR_DATA, _IMMEDIATE_DATA, _DATA_VERDICT, _VERDICT_CHAIN = 1, 2, 2, 2, 2
_PATIENCE = 5.0  # seconds one answer of the kernel's may take
_BOUND = 2.0  # seconds in which a removal insists that nothing changes between look and batch
_GIVE_UP = 10.0  # seconds after which a removal without that is given up, too
_LONGEST_PAUSE = 0.05
_BUILT_IN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_ABSENT = (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL)
"""No such table or chain; no family of that name; no nf_tables in this kernel (nfnetlink_rcv_msg
answers EINVAL for a subsystem that is not registered)."""


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def _head(family: str, resource: int = 0) -> bytes:
    return struct.pack(">BBH", FAMILIES.get(family, 0), 0, resource)  # struct nfgenmsg


def _open() -> Netlink:
    return Netlink(NETLINK_NETFILTER, time.monotonic() + _PATIENCE)


def _ask(client: Netlink, kind: int, payload: bytes) -> dict[int, bytes] | None:
    """Return the attributes of the one object asked for, None where there is none."""
    body = _answer(client, kind, payload)
    return None if body is None else dict(attributes(body, nft.HEADER))


def _answer(client: Netlink, kind: int, payload: bytes) -> bytes | None:
    try:
        answers = client.request(_SUBSYSTEM << 8 | kind, payload)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise _refused(error) from error
    return answers[0][1] if answers else None


def _refused(error: OSError) -> Unreadable:
    permitted = error.errno not in (errno.EPERM, errno.EACCES)
    return Unreadable(
        f"nf_tables: {error.strerror}", "" if permitted else "run as root (CAP_NET_ADMIN)"
    )


def table_exists(family: str, table: str) -> bool:
    """Tell whether a table exists, without loading a ruleset; raise Unreadable."""
    with _open() as client:
        return _table(client, family, table) is not None


def put_to_sleep(family: str, table: str) -> None:
    """Switch a table off that is there; raise OSError."""
    flags = attribute(_TABLE_FLAGS, struct.pack(">I", nft.DORMANT))
    _commit(None, ((_NEWTABLE, 0, _head(family) + attribute(_TABLE_NAME, _name(table)) + flags),))


def remove_table(family: str, table: str) -> None:
    """Remove a table with all that is in it, if it is there; raise OSError."""
    with contextlib.suppress(FileNotFoundError):
        _commit(None, ((_DELTABLE, 0, _head(family) + attribute(_TABLE_NAME, _name(table))),))


def _table(client: Netlink, family: str, table: str) -> dict[int, bytes] | None:
    return _ask(client, _GETTABLE, _head(family) + attribute(_TABLE_NAME, _name(table)))


def chain_exists(family: str, table: str, chain: str) -> bool:
    """Tell whether a chain exists; raise Unreadable."""
    with _open() as client:
        payload = attribute(_CHAIN_TABLE, _name(table)) + attribute(_CHAIN_NAME, _name(chain))
        return _ask(client, _GETCHAIN, _head(family) + payload) is not None


def built_in(family: str, table: str) -> tuple[str, ...] | None:
    """Return the base chains of a table that bear names of iptables, None without the table.

    Raises Unreadable.
    """
    with _open() as client:
        if _table(client, family, table) is None:
            return None
        found = ((name, _chain(client, family, table, name)) for name in _BUILT_IN)
        return tuple(name for name, chain in found if chain and chain.hook is not None)


def _jumps(family: str, table: str, chain: str, wanted: int) -> tuple[Rule, ...]:
    """Return the rules that go to ``chain``, of which there are ``wanted``.

    Built-in chains are read side by side and only until all are found: ours stand at their top,
    and below may be 50,000 rules of others. What is somewhere else is looked for in the whole
    table. That others write meanwhile (NLM_F_DUMP_INTR) does not matter: what was missed is seen
    by the count, and a handle is never used twice (nf_tables_newrule(), nf_tables_alloc_handle()).
    """
    found: dict[bytes, Rule] = {}
    for owners in (_BUILT_IN, ("",)):
        streams = [_rules(family, table, owner, chain) for owner in owners]
        for row in zip_longest(*streams) if len(found) < wanted else ():
            for got in row:
                if got is not None and _name(chain) in _targets(got.get(_RULE_EXPRESSIONS, b"")):
                    found[got[_RULE_HANDLE]] = got
            if len(found) >= wanted:
                break
        for stream in streams:
            stream.close()
    return tuple(found.values())


def _rules(
    family: str, table: str, chain: str, naming: str = ""
) -> Generator[Rule | None, None, None]:
    """Yield the rules of one chain, or with "" of the table, as they are while it is read.

    None for a rule that does not name the chain ``naming``.
    """
    wanted = _name(naming) if naming else b""
    deadline = time.monotonic() + _PATIENCE
    try:
        for body in nft.rules(family, table, chain, deadline):
            if wanted not in body:
                yield None
                continue
            got = dict(attributes(body, 4))  # kernels before 4.10 do not filter
            if got.get(_RULE_TABLE) == _name(table) and (
                not chain or got.get(_RULE_CHAIN) == _name(chain)
            ):
                yield got
    except Interrupted:
        return
    except OSError as error:
        if error.errno not in _ABSENT:
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

    Others may write all the time: a batch that the kernel refuses for that is made again after a
    pause. Where that does not help, our chain goes without asking for a generation, which needs
    none (rules are deleted by handle, and a chain that is used stays), and then the base chains.
    No lock would help: iptables-nft takes none.
    """
    began, pause = time.monotonic(), 0.001
    jumps: _Jumps | None = None
    bases: frozenset[str] = frozenset()
    while True:
        late = time.monotonic() - began
        if jumps is None:
            jumps = _jumps_to(family, table, chain)
            bases |= {owner for owner, _ in jumps or ()} - (keep or frozenset())
        bound = late < _BOUND or jumps is None
        with _open() as client:
            generation = _ask(client, _GETGEN, _head(""))
            parts = () if jumps is None else tuple(_removal(family, table, chain, jumps))
            if bound:
                gone = min(len(parts), 1)
                emptied = (jumps or (), gone, keep is None)
                parts += tuple(_emptied(client, family, table, bases, *emptied))
        if not parts or generation is None:
            return
        try:
            _commit(generation[1] if bound else None, parts)
        except OSError as error:
            # ERESTART: another generation. ENOENT, EBUSY: a jump has gone or come meanwhile.
            if error.errno not in (errno.ERESTART, errno.EBUSY, errno.EAGAIN, errno.ENOENT):
                raise WriteFailed(f"{family} {table} {chain}: {error.strerror}") from error
            if late > _GIVE_UP and jumps is None:
                return  # what is left is empty and accepts: nothing of ours is in it
            if late > _GIVE_UP:
                raise WriteFailed(
                    f"{family} {table} {chain}: the ruleset changes all the time", "try again later"
                ) from error
            if error.errno != errno.ERESTART:
                jumps = None
            time.sleep(pause)  # the kernel tells nobody when others have stopped writing
            pause = min(2 * pause, _LONGEST_PAUSE)
            continue
        if bound:
            return
        jumps = None  # and now the base chains


def remove_empty(family: str, table: str, names: frozenset[str]) -> None:
    """Remove those of these base chains that are empty and accept; raise as remove_chain()."""
    began, pause = time.monotonic(), 0.001
    while names and time.monotonic() - began < _GIVE_UP:
        with _open() as client:
            generation = _ask(client, _GETGEN, _head(""))
            parts = tuple(_emptied(client, family, table, names, (), 0, False))
        if not parts or generation is None:
            return
        try:
            _commit(generation[1], parts)
        except OSError as error:
            if error.errno not in (errno.ERESTART, errno.EBUSY, errno.EAGAIN, errno.ENOENT):
                raise WriteFailed(f"{family} {table}: {error.strerror}") from error
            time.sleep(pause)  # as above
            pause = min(2 * pause, _LONGEST_PAUSE)
            continue
        return


_Jumps = tuple[tuple[str, bytes], ...]
"""Chain and handle of each rule that goes to our chain."""
Rule = dict[int, bytes]
"""The attributes of one rule as the kernel sent them."""
_Part = tuple[int, int, bytes]
"""Kind, flags and payload of one message of a batch."""


def _jumps_to(family: str, table: str, chain: str) -> _Jumps | None:
    """Return the jumps to a chain, None where there is no such chain."""
    found = own_rules(family, table, chain)
    if found is None:
        return None
    jumps = ((str(r[_RULE_CHAIN][:-1], "utf-8", "replace"), r[_RULE_HANDLE]) for r in found)
    return tuple(jump for jump in jumps if jump[0] != chain)


def own_rules(family: str, table: str, chain: str) -> tuple[Rule, ...] | None:
    """Return the rules of a chain, then those that go to it; None where there is no such chain.

    Raises Unreadable.
    """
    for _ in range(_LOOKS):
        with _open() as client:
            own = _chain(client, family, table, chain)
        if own is None:
            return None
        rules = tuple(rule for rule in _rules(family, table, chain) if rule is not None)
        jumps = _jumps(family, table, chain, own.use - len(rules))
        with _open() as client:
            after = _chain(client, family, table, chain)
        if after is not None and len(rules) + len(jumps) == own.use == after.use:
            break
    return (*rules, *jumps)


def copy(family: str, table: str, chain: str, rules: tuple[Rule, ...]) -> bool:
    """Make the table with a chain and the rules about it here, where it is not; False if refused.

    Every other chain that the rules are in or go to becomes an empty one without a hook.
    """
    head = _head(family)
    in_table = head + attribute(_RULE_TABLE, _name(table))
    names = {_name(chain), *(rule[_RULE_CHAIN] for rule in rules)}
    names |= {name for rule in rules for name in _targets(rule.get(_RULE_EXPRESSIONS, b""))}
    parts = [(_NEWTABLE, _NLM_F_CREATE, head + attribute(_TABLE_NAME, _name(table)))]
    for name in sorted(names - {b""}):
        parts.append((_NEWCHAIN, _NLM_F_CREATE, in_table + attribute(_CHAIN_NAME, name)))
    for rule in rules:
        body = in_table + attribute(_RULE_CHAIN, rule[_RULE_CHAIN])
        body += attribute(_RULE_EXPRESSIONS | NLA_F_NESTED, rule.get(_RULE_EXPRESSIONS, b""))
        body += compat(rule.get(_RULE_EXPRESSIONS, b""))
        if _RULE_USERDATA in rule:
            body += attribute(_RULE_USERDATA, rule[_RULE_USERDATA])
        parts.append((_NEWRULE, _NLM_F_CREATE | _NLM_F_APPEND, body))
    try:
        _commit(None, tuple(parts))
    except OSError:
        return False
    return True


def _chain(client: Netlink, family: str, table: str, name: str) -> nft.KernelChain | None:
    payload = attribute(_CHAIN_TABLE, _name(table)) + attribute(_CHAIN_NAME, _name(name))
    body = _answer(client, _GETCHAIN, _head(family) + payload)
    return None if body is None else nft.chain(body)


def _removal(family: str, table: str, chain: str, jumps: _Jumps) -> Iterator[_Part]:
    """Yield what removes our chain and the jumps to it."""
    in_table = _head(family) + attribute(_RULE_TABLE, _name(table))
    for owner, handle in jumps:
        where = attribute(_RULE_CHAIN, _name(owner)) + attribute(_RULE_HANDLE, handle)
        yield _DELRULE, 0, in_table + where
    yield _DELCHAIN, 0, in_table + attribute(_CHAIN_NAME, _name(chain))


def _emptied(
    client: Netlink,
    family: str,
    table: str,
    names: frozenset[str],
    jumps: _Jumps,
    gone: int,
    with_table: bool,
) -> Iterator[_Part]:
    """Yield what removes those base chains that then hold no rule and accept, and the table.

    ``jumps`` are removed by the same batch, and ``gone`` chains.
    """
    head = _head(family)
    for name in sorted(names):
        base = _chain(client, family, table, name)
        if (
            base is not None
            and base.hook is not None
            and base.accepts
            and base.use == sum(owner == name for owner, _ in jumps)
        ):
            in_table = head + attribute(_RULE_TABLE, _name(table))
            yield _DELCHAIN, _NLM_F_NONREC, in_table + attribute(_CHAIN_NAME, _name(name))
            gone += 1
    found = _table(client, family, table)
    if (
        with_table
        and found is not None
        and int.from_bytes(found.get(_TABLE_USE, b""), "big") == gone
    ):
        yield _DELTABLE, _NLM_F_NONREC, head + attribute(_TABLE_NAME, _name(table))


def _commit(generation: bytes | None, parts: tuple[_Part, ...]) -> None:
    """Send one batch and hear every answer; raise OSError for the first refusal.

    With a ``generation`` it is refused (ERESTART) where the ruleset is another by now.
    """
    edge = _head("", _SUBSYSTEM)
    begin = edge if generation is None else edge + attribute(_BATCH_GENID, generation)
    batch = message(_BATCH_BEGIN, NLM_F_REQUEST, 0, begin)
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
