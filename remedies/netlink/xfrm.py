"""IPsec as the kernel counts it: how many associations and policies there are.

Layouts are those of include/uapi/linux/xfrm.h. Needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import struct

from remedies.errors import Unreadable
from remedies.netlink.socket import Netlink, attributes

NETLINK_XFRM = 6
_GET_SAD, _GET_SPD = 0x23, 0x25  # XFRM_MSG_GETSADINFO, XFRM_MSG_GETSPDINFO
_COUNTS = 1  # XFRMA_SAD_CNT; XFRMA_SPD_INFO
_FLAGS = struct.pack("=I", 0)


def entries(client: Netlink) -> int:
    """Return the number of associations and policies, those of sockets among them.

    Raises OSError with the kernel's refusal, and Unreadable.
    """
    return _counted(client, _GET_SAD, 1) + _counted(client, _GET_SPD, 6)


def _counted(client: Netlink, kind: int, numbers: int) -> int:
    for _, body in client.request(kind, _FLAGS):
        for number, value in attributes(body, len(_FLAGS)):
            if number == _COUNTS and len(value) >= 4 * numbers:
                return sum(struct.unpack_from(f"={numbers}I", value))
    raise Unreadable("xfrm: no counts in the kernel's answer")
