"""What is in this network namespace under names of ours, whoever wrote it.

Asked by name: tables and chains of nf_tables come in two short dumps without their rules, and a
legacy table is read only where one is loaded. In the machine's own namespace boot files count, too:
those in our own folder, and elsewhere those that begin with the line we write. Addresses that no
driver would write are left out.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from remedies.errors import InputError, RemedyError, Unreadable
from remedies.namespaces import netns
from remedies.netfilter import legacy
from remedies.netfilter.stores import XTABLES
from remedies.netlink import nft
from remedies.resources import file
from remedies.rules.ours import (
    CHAIN_PREFIX,
    NFT_PREFIX,
    TRACE_PREFIX,
    WRITTEN,
    iptables_split,
    nft_split,
)

LIMIT = 5.0
"""Seconds that the kernel may take."""
_SCHEMES = {"ip": "iptables", "ip6": "ip6tables"}


def addresses() -> tuple[str, ...]:
    """Return the address of each table ``remedy_*``, chain ``REMEDY-*`` and boot file, in order.

    Raises Unreadable where the kernel does not say.
    """
    found = [*_nft(), *_legacy()]
    return (*sorted(set(found)), *sorted(_files()))


def _files() -> Iterator[str]:
    for folder in file.FOLDERS if netns.is_host() else ():
        with contextlib.suppress(OSError):  # there is none
            for name in os.listdir(file.ROOT + folder):
                with contextlib.suppress(RemedyError):
                    content = file.read(f"{folder}/{name}") or ""
                    if folder == file.OWN or content.startswith(WRITTEN):
                        yield f"file:{folder}/{name}"


def _nft() -> Iterator[str]:
    deadline = time.monotonic() + LIMIT
    try:
        tables, chains = nft.tables(deadline), nft.chains(deadline)
    except OSError as error:
        if isinstance(error, PermissionError):
            raise Unreadable(f"nf_tables: {error.strerror}", "run as root") from error
        return  # not in this kernel
    for family, table in tables:
        if table.startswith(NFT_PREFIX) and not table.startswith(TRACE_PREFIX):
            with contextlib.suppress(InputError):
                nft_split(f"{family}/{table}")
                yield f"nft:{family}/{table}"
    for chain in chains:
        if chain.family in _SCHEMES and chain.table in XTABLES:
            yield from _chain(chain.family, chain.table, chain.name)


def _legacy() -> Iterator[str]:
    for family in _SCHEMES:
        for table in legacy.tables(family):
            for chain in legacy.read(family, table).chains.values():
                yield from _chain(family, table, chain)


def _chain(family: str, table: str, chain: str) -> Iterator[str]:
    if chain.startswith(CHAIN_PREFIX):
        with contextlib.suppress(InputError):
            iptables_split(f"{table}/{chain}")
            yield f"{_SCHEMES[family]}:{table}/{chain}"
