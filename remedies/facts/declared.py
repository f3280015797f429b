"""What sysctl.d sets keys of loadable modules to at boot, and by which line.

systemd-sysctl runs once, early. A key that is not there yet, because its module is loaded later, is
passed over: the kernel goes on with its own default (systemd/systemd#1113, #43362).
"""

from __future__ import annotations

from remedies.boot import sysctl_d
from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.facts.sysctl import Sysctl
from remedies.values import dataclass, field

AFTER = ("sysctl",)

DEFAULTS = {
    "net.bridge.bridge-nf-call-ip6tables": ("br_netfilter", "1"),
    "net.bridge.bridge-nf-call-iptables": ("br_netfilter", "1"),
    "net.netfilter.nf_conntrack_log_invalid": ("nf_conntrack", "0"),
    "net.netfilter.nf_conntrack_tcp_be_liberal": ("nf_conntrack", "0"),
    "net.netfilter.nf_conntrack_tcp_loose": ("nf_conntrack", "1"),
    "net.netfilter.nf_conntrack_tcp_timeout_established": ("nf_conntrack", "432000"),
    "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged": ("nf_conntrack", "300"),
}
"""Key to its module and the value that it has as long as nobody sets it: br_netfilter_hooks.c,
nf_conntrack_proto_tcp.c of the kernel."""
_WORDS = ("nf_conntrack", "netfilter", "bridge")
"""One of these is in every line, or pattern, that sets one of the keys."""


@dataclass(frozen=True)
class DeclaredValue:
    """What a line says."""

    value: str
    line: str
    """``FILE:LINE``."""


@dataclass(frozen=True)
class Declared:
    """Lines that set a key whose value now is the kernel's default; the last one of each key."""

    keys: dict[str, DeclaredValue] = field(default_factory=dict)


def read(asking: Asking) -> Declared:
    """Read sysctl.d where a key has its default; in the machine's own namespace alone.

    Raises Unreadable where a file cannot be read.
    """
    values = (asking.earlier(Sysctl) or Sysctl()).values
    untouched = [key for key, (_, default) in DEFAULTS.items() if values.get(key) == default]
    if asking.host.netns != "host" or not untouched:
        return Declared()
    try:
        sources = [
            source
            for source in sysctl_d.sources()
            if any(word in source.text for word in _WORDS) or "*" in source.text
        ]
    except OSError as error:
        raise Unreadable(f"sysctl.d: {error.strerror}", "run as root") from error
    found = {}
    for key in untouched:
        said = sysctl_d.decides(key, sources)
        if said is not None:
            found[key] = DeclaredValue(" ".join(said.value.split()), f"{said.path}:{said.line}")
    return Declared(found)
