"""What becomes of packets that a rule hands to a program: whether one reads the queue.

nf_queue() in net/netfilter/nf_queue.c: without one the packet is dropped, or, by a rule that says
``bypass``, goes on as if that had accepted it.
"""

from __future__ import annotations

from collections.abc import Mapping

READERS = "/proc/thread-self/net/netfilter/nfnetlink_queue"
"""A line for each queue that a program reads, its number first (seq_show(), nfnetlink_queue.c).
Without the file the module is not there, and no program reads any."""


def verdict(first: int, total: int, *, bypass: bool) -> str:
    """Return how a rule ends that shares packets out among ``total`` queues from ``first`` on.

    ``queue`` where a program decides, or it cannot be told whether one does.
    """
    try:
        with open(READERS, encoding="ascii", errors="replace") as file:
            read = {int(line.split()[0]) for line in file if line.split()[:1]}
    except FileNotFoundError:
        read = set()
    except (OSError, ValueError):
        return "queue"
    if any(number in read for number in range(first, first + total)):
        return "queue"
    return "accept" if bypass else "drop"


def of_nft(got: Mapping[int, bytes]) -> str:
    """Return how nft's queue ends; ``got``: its attributes (NFTA_QUEUE_*, nf_tables.h)."""
    if 4 in got:  # SREG_QNUM: a register says which
        return "queue"
    first, total, flags = (int.from_bytes(got.get(key, b""), "big") for key in (1, 2, 3))
    return verdict(first, total or 1, bypass=bool(flags & 1))  # NFT_QUEUE_FLAG_BYPASS
