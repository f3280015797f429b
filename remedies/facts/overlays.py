"""Virtual links that others know by their MAC address, and whether udev chose that address.

udev gives a link the address that its name and the machine's id make, where the .link file that
matches says ``MACAddressPolicy=persistent``, as systemd's own 99-default.link does for all. So the
address itself tells: net_get_unique_predictable_data() of systemd's src/shared/netif-naming.c and
get_mac() of src/udev/net/link-config.c are computed again here.
"""

from __future__ import annotations

from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.namespaces import machine
from remedies.netlink.links import Links
from remedies.values import dataclass

AFTER = ("links",)

TUNNELS = ("vxlan", "geneve")
"""Other hosts are told the address of such a link, and answer to it."""
PINNED = ("eni", "lxc")
"""How veth links begin whose address is written into pods: the VPC CNI of AWS, Cilium."""
_KEY = bytes.fromhex("d31e48fa90fe4b4c9dafd5d7a1b12e8a")
_ALL = (1 << 64) - 1


@dataclass(frozen=True)
class MacOfLink:
    """One such link."""

    link: str
    kind: str
    address: str
    by_udev: bool
    """It is the address that udev gives by ``MACAddressPolicy=persistent``."""


@dataclass(frozen=True)
class Overlays:
    """Those of the machine's own namespace, in which alone udev sets addresses."""

    links: tuple[MacOfLink, ...] = ()


def read(asking: Asking) -> Overlays:
    """Read the address of each such link; raise Unreadable where there is one and it is hidden."""
    links = (asking.earlier(Links) or Links()).links
    found = []
    for link in links if asking.host.netns == "host" else ():
        if link.kind in TUNNELS or (link.kind == "veth" and link.name.startswith(PINNED)):
            try:
                path = f"{machine.ROOT}/sys/class/net/{link.name}/address"
                with open(path, encoding="ascii") as file:
                    address = file.read(32).strip()
            except FileNotFoundError:
                continue  # it went away in between
            except OSError as error:
                raise Unreadable(f"address of {link.name}: {error.strerror}") from error
            by_udev = address == persistent(link.name, asking.host.machine_id)
            found.append(MacOfLink(link.name, link.kind, address, by_udev))
    return Overlays(tuple(found))


def persistent(name: str, machine_id: str) -> str:
    """Return the address that udev gives a link, or nothing where the machine has no id."""
    try:
        machine = bytes.fromhex(machine_id)
    except ValueError:
        return ""
    if len(machine) != 16:
        return ""
    mac = bytearray(siphash24(machine + name.encode(), _KEY).to_bytes(8, "little")[:6])
    mac[0] = mac[0] & 0xFE | 0x02
    return ":".join(f"{byte:02x}" for byte in mac)


def siphash24(data: bytes, key: bytes) -> int:
    """Return SipHash-2-4 (Aumasson, Bernstein: SipHash, 2012)."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [
        k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573,
    ]  # fmt: skip
    whole = len(data) // 8 * 8
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        v[3] ^= word
        _rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xFF
    _rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _rounds(v: list[int], count: int) -> None:
    for _ in range(count):
        v[0] = (v[0] + v[1]) & _ALL
        v[1] = _turned(v[1], 13) ^ v[0]
        v[0] = _turned(v[0], 32)
        v[2] = (v[2] + v[3]) & _ALL
        v[3] = _turned(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & _ALL
        v[3] = _turned(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & _ALL
        v[1] = _turned(v[1], 17) ^ v[2]
        v[2] = _turned(v[2], 32)


def _turned(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _ALL
