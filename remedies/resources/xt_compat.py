"""What xt matches are told of the rule that they stand in, and no dump of the kernel's says."""

from __future__ import annotations

import struct

from remedies.netlink.socket import attribute, attributes, nested

_EXPR_NAME, _EXPR_DATA, _RULE_COMPAT = 1, 2, 5
_CMP_OP, _CMP_DATA, _DATA_VALUE = 2, 3, 1


def compat(expressions: bytes) -> bytes:
    """Return the protocol of a rule as xt matches want to be told it (NFTA_RULE_COMPAT).

    The kernel does not say it in a dump (nf_tables_fill_rule_info()): it is what the first
    comparison of one byte compares with, which iptables-nft writes for ``-p``.
    """
    for _, expression in attributes(expressions):
        got = dict(attributes(expression))
        if got.get(_EXPR_NAME) != b"cmp\0":
            continue
        parts = dict(attributes(got.get(_EXPR_DATA, b"")))
        value = dict(attributes(parts.get(_CMP_DATA, b""))).get(_DATA_VALUE, b"")
        if len(value) == 1:
            inverted = 2 if parts.get(_CMP_OP) == b"\0\0\0\1" else 0  # NFT_RULE_COMPAT_F_INV
            figures = (int.from_bytes(value, "big"), inverted)
            told = (attribute(n, struct.pack(">I", figure)) for n, figure in enumerate(figures, 1))
            return nested(_RULE_COMPAT, *told)
    return b""
