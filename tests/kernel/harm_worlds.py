"""The worlds of the harm matrix: every kind of traffic that a fix of ours must not end."""

from __future__ import annotations

from harm_site import AT, World
from harm_stale import moved, one_way
from harm_traffic import (
    FAR,
    abandoned,
    answered,
    from_outside,
    refused,
    renumbered,
    reused,
    transfer,
    version_four,
)

SLOW = 4.0
"""SYNPROXY loses the first segment of data: it comes again after a second."""

MASQUERADE = """
table inet site {
  chain post { type nat hook postrouting priority srcnat;
    ip saddr 172.17.0.0/16 oifname "eth0" masquerade
    ip6 saddr fd17::/64 oifname "eth0" masquerade
  }
}
"""
PUBLISHED = """
table inet site_dnat {
  chain pre { type nat hook prerouting priority dstnat;
    ip daddr 10.21.17.99 tcp dport 8080 dnat ip to 172.17.0.2:80
    ip6 daddr fd21::99 tcp dport 8080 dnat ip6 to [fd17::2]:80
  }
  chain out { type nat hook output priority -100;
    ip daddr 10.21.17.99 tcp dport 8080 dnat ip to 172.17.0.2:80
    ip6 daddr fd21::99 tcp dport 8080 dnat ip6 to [fd17::2]:80
  }
}
"""
SYNPROXY = """
table inet sp {
  chain raw { type filter hook prerouting priority raw;
    iifname "eth0" tcp dport { 2222, 8080 } tcp flags syn notrack
  }
  chain input { type filter hook input priority filter;
    iifname "eth0" tcp dport { 2222, 8080 } ct state invalid,untracked \\
      synproxy mss 1460 wscale 7 timestamp sack-perm
  }
}
"""
ACCEPTED = """
table inet f { chain forward { type filter hook forward priority filter; policy accept;
  iifname "docker0" ct state invalid accept
  ct state invalid drop
  }
}
"""
FAR_ALONE = MASQUERADE.replace(
    'oifname "eth0" masquerade', 'ip daddr 198.51.100.0/24 oifname "eth0" masquerade', 1
).replace("fd17::/64 oifname", "fd17::/64 ip6 daddr 2001:db8:9::/64 oifname")
"""NAT for one network alone: what comes back by the second link is left as it is."""
ON_THE_BRIDGE = """
table inet site_dnat {
  chain pre { type nat hook prerouting priority dstnat;
    iifname "docker0" ip daddr 10.21.17.99 tcp dport 8081 dnat ip to 172.17.0.3:80
    iifname "docker0" ip6 daddr fd21::99 tcp dport 8081 dnat ip6 to [fd17::3]:80
  }
}
"""
PUBLISHED_UDP = """
table inet site_dnat {
  chain pre { type nat hook prerouting priority dstnat;
    ip daddr 10.21.17.99 udp dport 53 dnat ip to 172.17.0.2:53
    ip6 daddr fd21::99 udp dport 53 dnat ip6 to [fd17::2]:53
  }
}
"""
FIREWALL = """
table inet f {
  chain input { type filter hook input priority filter; policy drop;
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    %s
  }
}
"""
ONE_ADDRESS = (
    FIREWALL
    % """
    ip daddr 10.21.17.99 udp dport 53 accept
    ip6 daddr fd21::99 udp dport 53 accept
    ip daddr 10.21.17.99 tcp dport { 22, 2222 } accept
    ip6 daddr fd21::99 tcp dport { 22, 2222 } accept
"""
)
NEW_ALONE = (
    FIREWALL
    % """
    ct state new udp dport 53 accept
    ct state new tcp dport 22 accept
"""
)
OUT_BY_STATE = """
table inet f {
  chain output { type filter hook output priority filter; policy drop;
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ct state new udp dport 5060 accept
  }
}
"""
UNTOLD = """
table inet f {
  chain output { type filter hook output priority filter; policy accept;
    icmp type destination-unreachable icmp code frag-needed drop
    icmpv6 type packet-too-big drop
  }
}
"""
ON_THE_LOOPBACK = """
table ip site_ports {
  chain out { type nat hook output priority -100;
    ip daddr 127.0.0.0/8 tcp dport 8080 dnat to 172.17.0.2:80
  }
  chain post { type nat hook postrouting priority srcnat;
    ip saddr 127.0.0.0/8 oifname "docker0" masquerade
  }
  chain pre { type nat hook prerouting priority dstnat;
    iifname "eth0" tcp dport 8088 dnat to 127.0.0.1:8022
  }
}
"""
"""A port that the host asks on its loopback, and one that NAT leads there for others."""
OPENED = {"net.ipv4.conf.all.route_localnet": "1"}
_SUBNETS = ("172.17.0.0/16", "fd17::/64")
_FAR = ("198.51.100.9/32", "2001:db8:9::9/128")
_VIRTUAL = ("203.0.113.7/32", "2001:db8:7::7/128")
_VIA_HOST = {"198.51.100.9/32": "10.21.17.99", "2001:db8:9::9/128": "fd21::99",
             "172.17.0.0/16": "10.21.17.99", "fd17::/64": "fd21::99"}  # fmt: skip
_BY_HOST = tuple(f"{to} via {_VIA_HOST[to]}" for to in (*_SUBNETS, *_FAR))
_SIDE = tuple(
    f"{AT[v].container}/{32 if v == 4 else 128} via {AT[v].side_container}" for v in (4, 6)
)

WORLDS = (
    World(
        "masquerade",
        MASQUERADE,
        probes=(
            ("fault", transfer("c", "v", "outside", 443, stray=FAR)),
            ("plain", transfer("c", "v", "outside", 443)),
            ("to the host", transfer("x", "h", "host", 22)),
            ("refused by the host", refused("x", "host", 23)),
            ("refused outside", refused("c", "outside", 23)),
        ),
    ),
    World(
        "port reused",
        MASQUERADE,
        slow=True,
        probes=(
            ("by the host", reused("h", "host", "outside")),
            ("by the container", reused("c", "container", "outside")),
        ),
    ),
    World(
        "published port",
        MASQUERADE + PUBLISHED,
        routes={"v": _BY_HOST[:2]},
        probes=(
            ("fault", transfer("v", "c", "host", 8080, serves="container", bound=80, stray=FAR)),
            ("plain", transfer("v", "c", "host", 8080, serves="container", bound=80)),
        ),
    ),
    World(
        "sequence numbers rewritten",
        PUBLISHED,
        probes=(("fault", renumbered("host", 8080, "c", "container", 80)),),
    ),
    World(
        "SYNPROXY on the host",
        MASQUERADE + SYNPROXY,
        sysctls={"net.netfilter.nf_conntrack_tcp_loose": "0"},
        served=True,
        slow=True,
        probes=(("service", transfer("x", "h", "host", 2222, patience=SLOW)),),
    ),
    World(
        "SYNPROXY, published port",
        MASQUERADE + PUBLISHED + SYNPROXY,
        sysctls={"net.netfilter.nf_conntrack_tcp_loose": "0"},
        routes={"v": _BY_HOST[:2]},
        slow=True,
        probes=(
            (
                "service",
                transfer("v", "c", "host", 8080, serves="container", bound=80, patience=SLOW),
            ),
        ),
    ),
    World(
        "requests only, one link",
        MASQUERADE,
        routes={
            "x": _BY_HOST[2:],
            "h": tuple(f"{to} via {AT[v].outside}" for to, v in zip(_FAR, (4, 6))),
        },
        probes=(
            ("one way", transfer("x", "v", "far", 8000, source="neighbour")),
            ("refused", refused("x", "far", 8001)),
            ("told that it is gone", abandoned("x", "v", "far", "neighbour")),
        ),
    ),
    World(
        "SYN-ACKs only, one link",
        MASQUERADE,
        routes={
            "x": _BY_HOST[2:],
            "h": tuple(f"{to} via {AT[v].outside}" for to, v in zip(_FAR, (4, 6))),
        },
        probes=(
            ("one way", transfer("v", "x", "neighbour", 8000, source="far")),
            ("refused", refused("v", "neighbour", 8001, source="far")),
            ("told that it is gone", abandoned("v", "x", "neighbour", "far")),
        ),
    ),
    World(
        "requests only, two links",
        MASQUERADE,
        routes={
            "v": _BY_HOST[:2],
            "c": tuple(
                f"{AT[v].outside} via {AT[v].side_outside} src {AT[v].container}" for v in (4, 6)
            ),
        },
        probes=(
            ("one way", transfer("v", "c", "container", 8000, source="outside")),
            ("refused", refused("v", "container", 8001, source="outside")),
        ),
    ),
    World(
        "SYN-ACKs only, two links",
        FAR_ALONE,
        routes={"v": _SIDE},
        probes=(
            ("one way", transfer("v", "c", "container", 8000, source="outside")),
            ("refused", refused("v", "container", 8001, source="outside")),
            ("told that it is gone", abandoned("v", "c", "container", "outside")),
        ),
    ),
    World(
        "INVALID accepted by a rule",
        FAR_ALONE + ACCEPTED,
        routes={"v": _SIDE},
        probes=(
            ("one way", transfer("v", "c", "container", 8000, source="outside")),
            ("refused", refused("v", "container", 8001, source="outside")),
            ("told that it is gone", abandoned("v", "c", "container", "outside")),
        ),
    ),
    World(
        "forgotten, tcp_loose = 0",
        MASQUERADE,
        sysctls={"net.netfilter.nf_conntrack_tcp_loose": "0"},
        routes={
            "x": _BY_HOST[2:],
            "v": ("10.21.17.20/32 via 10.21.17.99", "fd21::20/128 via fd21::99"),
            "h": tuple(f"{to} via {AT[v].outside}" for to, v in zip(_FAR, (4, 6))),
        },
        probes=(
            (
                "both ways",
                transfer(
                    "x", "v", "far", 8000, source="neighbour", between=lambda s, v: s.forget(v)
                ),
            ),
            ("to the host", transfer("x", "h", "host", 22, between=lambda s, v: s.forget(v))),
        ),
    ),
    World(
        "bridged, one link",
        MASQUERADE + ON_THE_BRIDGE,
        probes=(
            ("fault", transfer("c", "d", "host", 8081, serves="sibling", bound=80, stray=FAR)),
            ("plain", transfer("c", "d", "sibling", 8000)),
            ("forgotten", transfer("c", "d", "sibling", 8000, between=lambda s, v: s.forget(v))),
            ("refused", refused("c", "sibling", 8001)),
        ),
    ),
    World(
        "direct return",
        MASQUERADE,
        addresses={"c": _VIRTUAL},
        routes={
            "v": tuple(f"{to} via {AT[v].host}" for to, v in zip(_VIRTUAL, (4, 6))),
            "h": tuple(f"{to} via {AT[v].container}" for to, v in zip(_VIRTUAL, (4, 6))),
            "c": tuple(f"{AT[v].outside} via {AT[v].side_outside}" for v in (4, 6)),
        },
        probes=(
            ("one way", transfer("v", "c", "virtual", 8000, source="outside")),
            ("refused", refused("v", "virtual", 8001, source="outside")),
            ("told that it is gone", abandoned("v", "c", "virtual", "outside")),
        ),
    ),
    World(
        "two uplinks, NAT on one",
        MASQUERADE,
        routes={
            "v": tuple(f"{to} via {AT[v].second}" for to, v in zip(_SUBNETS, (4, 6))),
            "h": (
                *(f"{to} via {AT[v].beyond}" for to, v in zip(_FAR, (4, 6))),
                *(f"default via {AT[v].beyond} metric 2000" for v in (4, 6)),
            ),
        },
        probes=(
            ("fault", transfer("c", "v", "outside", 443, stray=FAR)),
            ("by the other uplink", transfer("c", "v", "far", 8000)),
            ("out by the other one", transfer("v", "c", "container", 8000, source="outside")),
            ("to the host", transfer("v", "h", "second", 22)),
        ),
    ),
    World(
        "UDP services",
        MASQUERADE,
        tcp=False,
        served=True,
        probes=(
            ("UDP fault", answered("c", "host", 53)),
            ("the bridge's address", answered("c", "bridge", 53)),
            ("any source taken", answered("c", "host", 53, takes_any=True)),
            ("neighbour", answered("x", "host", 53)),
            ("on the bridge", answered("d", "container", 53, "c")),
            ("outside", answered("c", "outside", 53, "v")),
            ("host asks", answered("h", "outside", 5060, "v", source=("host", 53))),
            ("to the host", transfer("x", "h", "host", 22)),
        ),
    ),
    World(
        "one address opened",
        MASQUERADE + ONE_ADDRESS,
        tcp=False,
        served=True,
        probes=(
            ("any source taken", answered("c", "host", 53, takes_any=True)),
            ("neighbour", answered("x", "host", 53)),
            ("host asks", answered("h", "outside", 5060, "v", source=("host", 53))),
            ("to the host", transfer("x", "h", "host", 22)),
        ),
    ),
    World(
        "opened by state",
        MASQUERADE + NEW_ALONE,
        tcp=False,
        served=True,
        probes=(
            ("any source taken", answered("c", "host", 53, takes_any=True)),
            ("neighbour", answered("x", "host", 53)),
            ("to the host", transfer("x", "h", "host", 22)),
        ),
    ),
    World(
        "answers by state",
        MASQUERADE + OUT_BY_STATE,
        tcp=False,
        served=True,
        probes=(
            ("neighbour", answered("x", "host", 53)),
            ("to the host", transfer("x", "h", "host", 22)),
        ),
    ),
    World(
        "published UDP port",
        MASQUERADE + PUBLISHED_UDP,
        tcp=False,
        served=True,
        probes=(
            ("neighbour", answered("x", "host", 53, "c", serves="container")),
            ("on the bridge", answered("d", "host", 53, "c", serves="container")),
        ),
    ),
    World(
        "narrow uplink",
        MASQUERADE + PUBLISHED + UNTOLD,
        routes={"v": _BY_HOST[:2]},
        mtus={"eth0": 1400},
        tcp=False,
        of="clamp-mss",
        probes=(
            ("MTU fault", transfer("c", "v", "outside", 443)),
            (
                "MTU fault, published",
                transfer("v", "c", "host", 8080, serves="container", bound=80),
            ),
            ("refused outside", refused("c", "outside", 23)),
            ("over UDP", answered("c", "outside", 53, "v")),
            ("on the bridge", transfer("c", "d", "sibling", 8000)),
            ("host asks", transfer("h", "v", "outside", 443)),
        ),
    ),
    World(
        "ports on the loopback",
        MASQUERADE + ON_THE_LOOPBACK,
        sysctls=OPENED,
        tcp=False,
        of="loopback-drop",
        probes=(
            (
                "led out",
                version_four(transfer("h", "c", "loopback", 8080, serves="container", bound=80)),
            ),
            (
                "led there",
                version_four(transfer("x", "h", "host", 8088, serves="loopback", bound=8022)),
            ),
            ("own", transfer("h", "h", "loopback", 8000)),
            ("to the host", transfer("x", "h", "host", 22)),
        ),
    ),
    World(
        "reached on the loopback",
        MASQUERADE,
        sysctls=OPENED,
        tcp=False,
        of="loopback-drop",
        probes=(("neighbour", version_four(from_outside("x", "br0", "h", 8000))),),
    ),
    World(
        "rules that change",
        MASQUERADE,
        tcp=False,
        of="flush-stale-flow",
        probes=(
            ("stale fault", one_way(5301, ("nobody",), ("container",), "c")),
            ("TCP goes on", moved(5302)),
            (
                "an endpoint is kept",
                one_way(5303, ("container", "sibling"), ("container", "sibling"), "same"),
            ),
            ("a program's own port", one_way(5304, (), ("container",), "h")),
            ("answered", answered("x", "host", 53)),
        ),
    ),
)
