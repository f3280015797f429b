"""Programs of Debian that write firewall rules: how each is set up, and what the kernel then does.

Each runs on the host of a lab's world as its package installs it: its own daemon, or what its unit
starts. Where it gives containers a network (``bridge``), its own bridge takes the place of the
lab's docker0. Every one of them translates for the network behind the bridge, or stands beside NAT
of the lab's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PACKAGES = {
    "bookworm": ("docker.io", "firewalld", "ufw"),
    "trixie": (
        "busybox-static",
        "crun",
        "dnsmasq-base",
        "fail2ban",
        "ferm",
        "firewalld",
        "haproxy",
        "keepalived",
        "libvirt-clients",
        "libvirt-daemon-driver-network",
        "lxc",
        "netavark",
        "podman",
        "shorewall",
        "sshuttle",
        "ufw",
    ),
}
NFTABLES, IPTABLES = "nftables", "iptables"


@dataclass(frozen=True)
class Tool:
    """One program with one configuration."""

    backend: str
    """What it writes its rules with, and what ours are written with beside it."""
    sign: str
    """What stands in the rules while it is at work."""
    script: str
    """What sets it up and starts it: sh(1) on the host, with ``$CLIENT`` in the container."""
    alive: tuple[bool, ...]
    """Which connections live through a segment outside their window: the container's own; and those
    to a published port, by a segment of the container's, and by one of the client's."""
    bridge: str = "docker0"
    nat: bool = True
    """It translates; else the lab does."""
    owner: str = ""
    """Who is named for a rule of its that drops such segments."""
    family: int = 4
    """The IP version of the world's connections."""
    release: str = "trixie"
    """The Debian that packages it."""
    runs: bool = False
    """It runs the container itself, whose process /run/container names."""
    reload: str = ""
    """What makes it write its rules once more."""
    empties: bool = False
    """That takes our rules away."""

    @property
    def published(self) -> bool:
        """Tell whether it publishes a port."""
        return len(self.alive) > 1


_UFW = r"""
{ cat <<'END'
*nat
:POSTROUTING ACCEPT [0:0]
:PREROUTING ACCEPT [0:0]
-F
-A PREROUTING -i eth0 -p tcp --dport 443 -j DNAT --to-destination 172.17.0.2
-A POSTROUTING -s 172.17.0.0/16 -o eth0 -j MASQUERADE
COMMIT
END
cat /usr/share/ufw/iptables/before.rules; } > /etc/ufw/before.rules
ufw allow 22/tcp
ufw route allow proto tcp to 172.17.0.2 port 443
ufw route allow in on docker0 out on eth0
ufw --force enable
"""
# As firewall-offline-cmd writes them, of which each option is an interpreter started.
_TRUSTED = """\
cat > /etc/firewalld/zones/trusted.xml <<'END'
<?xml version="1.0" encoding="utf-8"?>
<zone target="ACCEPT"><interface name="docker0"/><forward/></zone>
END
"""
_FIREWALLD = rf"""
sed -i 's/^FirewallBackend=.*/FirewallBackend=BACKEND/' /etc/firewalld/firewalld.conf
cat > /etc/firewalld/zones/external.xml <<'END'
<?xml version="1.0" encoding="utf-8"?>
<zone>
  <service name="ssh"/>
  <masquerade/>
  <forward-port port="443" protocol="tcp" to-addr="172.17.0.2"/>
  <rule family="ipv6"><masquerade/></rule>
  <rule family="ipv6">
    <forward-port port="443" protocol="tcp" to-port="443" to-addr="fd17:172::2"/>
  </rule>
  <interface name="eth0"/>
  <forward/>
</zone>
END
{_TRUSTED}mkdir -p /run/dbus
dbus-daemon --system --fork
firewalld
timeout 60 sh -c 'until firewall-cmd --state; do sleep 0.2; done'
"""
_SHOREWALL = r"""
cd /etc/shorewall
cp /usr/share/doc/shorewall/examples/two-interfaces/* .
sed -i 's/^STARTUP_ENABLED=.*/STARTUP_ENABLED=Yes/' shorewall.conf
printf 'NET_IF=eth0\nLOC_IF=docker0\n' > params
sed -i 's/physical=eth1/physical=docker0/' interfaces
echo 'DNAT net loc:172.17.0.2 tcp 443' >> rules
sed -i 's/^Invalid(DROP)/STRAYS/' rules
shorewall start
"""
_FERM = r"""
cat > /etc/ferm/ferm.d/nat.conf <<'END'
table nat {
    chain PREROUTING interface eth0 proto tcp dport 443 DNAT to 172.17.0.2;
    chain POSTROUTING saddr 172.17.0.0/16 outerface eth0 MASQUERADE;
}
table filter chain FORWARD {
    interface docker0 ACCEPT;
    outerface docker0 proto tcp dport 443 ACCEPT;
}
END
ferm /etc/ferm/ferm.conf
"""
_LIBVIRT = r"""
echo 'firewall_backend = "BACKEND"' >> /etc/libvirt/network.conf
cat > /run/net.xml <<'END'
<network><name>containers</name><forward mode='nat'><nat ipv6='yes'/></forward>
<bridge name='virbr0'/>NETWORK</network>
END
ln -s /bin/true /run/tc # of use for DHCP alone, and act_csum is not in every kernel
PATH="/run:$PATH" libvirtd --daemon
virsh --connect network:///system net-create /run/net.xml
"""
_LXC = r"""
cat >> /etc/default/lxc-net <<'END'
LXC_USE_NFT=BACKEND
LXC_ADDR=172.17.0.1
LXC_NETMASK=255.255.0.0
LXC_NETWORK=172.17.0.0/16
LXC_DHCP_RANGE=172.17.0.10,172.17.0.99
LXC_IPV6_ADDR=fd17:172::1
LXC_IPV6_NETWORK=fd17:172::/64
END
/usr/libexec/lxc/lxc-net start
"""
_NETAVARK = r"""
cat > /run/podman.json <<'END'
{"container_id": "c0ffee", "container_name": "web",
 "port_mappings": [{"container_port": 443, "host_port": 443, "host_ip": "", "protocol": "tcp",
                    "range": 1}],
 "networks": {"podman": {"static_ips": ["ADDRESS"], "interface_name": "eth0"}},
 "network_info": {"podman": {"name": "podman", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1",
   "driver": "bridge", "network_interface": "podman0", "internal": false, "ipv6_enabled": true,
   "dns_enabled": false, "subnets": [{"subnet": "NETWORK", "gateway": "GATEWAY"}],
   "ipam_options": {"driver": "host-local"}}}}
END
NETAVARK_FW=BACKEND /usr/lib/podman/netavark --config /run/netavark \
  --file /run/podman.json setup "/proc/$CLIENT/ns/net"
"""
_PODMAN = r"""
podman() {
  /usr/bin/podman --cgroup-manager=cgroupfs --storage-driver=vfs --root=/run/images "$@"
}
tar -C / -c usr/bin/busybox | podman import - web
podman network create --subnet=172.17.0.0/16 --interface-name=podman1 containers
podman run --detach --cgroups=disabled --network=containers --ip=172.17.0.2 --publish=443:443 \
  --pidfile=/run/container web /usr/bin/busybox sleep 600
"""
_FAIL2BAN = r"""
mkfifo /run/banned
touch /run/sshd.log
cat > /etc/fail2ban/action.d/tell.conf <<'END'
[Definition]
actionban = echo <ip> > /run/banned
END
cat > /etc/fail2ban/jail.local <<'END'
[sshd]
enabled = true
backend = polling
logpath = /run/sshd.log
action = BACKEND
         tell
END
fail2ban-client start
cat /run/banned &
fail2ban-client set sshd banip 192.0.2.66
wait $!
"""
_KEEPALIVED = r"""
mkfifo /run/master
printf '#!/bin/sh\necho master > /run/master\n' > /run/tell
chmod 755 /run/tell
cat > /etc/keepalived/keepalived.conf <<'END'
global_defs {
  script_user root
  nftables
}
vrrp_instance one {
  interface eth0
  virtual_router_id 51
  priority 200
  advert_int 0.1
  version 3
  no_accept
  virtual_ipaddress {
    10.21.17.100/24
  }
  notify_master /run/tell
}
END
keepalived --vrrp --dont-fork --log-console --log-detail &
read -r state < /run/master
"""
_SSHUTTLE = r"""
mkfifo /run/asked /run/answered
sshuttle --firewall --method BACKEND < /run/asked > /run/answered &
exec 3> /run/asked 4< /run/answered
read -r ready <&4
printf 'ROUTES\n2,16,0,198.18.0.0,0,0\nNSLIST\nPORTS 0,12300,0,0\nGO 0 - - 0x01 %s\n' $$ >&3
read -r started <&4
[ "$started" = STARTED ]
sleep 600 &
"""


_LIBVIRT_NETWORK = """
<ip address='172.17.0.1' netmask='255.255.0.0'/>
<ip family='ipv6' address='fd17:172::1' prefix='64'/>
"""
_PODMAN_NETWORK = {
    4: {"ADDRESS": "172.17.0.2", "NETWORK": "172.17.0.0/16", "GATEWAY": "172.17.0.1"},
    6: {"ADDRESS": "fd17:172::2", "NETWORK": "fd17:172::/64", "GATEWAY": "fd17:172::1"},
}


def _tool(
    backend: str, sign: str, script: str, alive: str, words: dict[str, str] | None = None,
    **more: Any,
) -> Tool:  # fmt: skip
    for name, text in (words or {}).items():
        script = script.replace(name, text)
    return Tool(backend, sign, script, tuple(end == "lives" for end in alive.split()), **more)


def _firewalld(backend: str, sign: str, **more: Any) -> Tool:
    words, lives = {"BACKEND": backend}, "lives lives lives"
    return _tool(backend, sign, _FIREWALLD, lives, words, owner="firewalld", **more)


def _shorewall(strays: str, alive: str, **more: Any) -> Tool:
    return _tool(
        IPTABLES, "net-fw", _SHOREWALL, alive, {"STRAYS": strays}, owner="shorewall", **more
    )


def _libvirt(backend: str, sign: str, family: int = 4) -> Tool:
    words = {"BACKEND": backend, "NETWORK": _LIBVIRT_NETWORK}
    return _tool(backend, sign, _LIBVIRT, "dies", words, bridge="virbr0", family=family)


def _lxc(backend: str, sign: str, family: int = 4) -> Tool:
    words = {"BACKEND": "true" if backend == NFTABLES else "false"}
    return _tool(backend, sign, _LXC, "dies", words, bridge="lxcbr0", family=family)


def _netavark(backend: str, sign: str, family: int = 4) -> Tool:
    words = {"BACKEND": backend, **_PODMAN_NETWORK[family]}
    return _tool(
        backend, sign, _NETAVARK, "dies lives dies", words, bridge="podman0", owner="podman",
        family=family,
    )  # fmt: skip


def _fail2ban(backend: str, sign: str, action: str, **more: Any) -> Tool:
    return _tool(backend, sign, _FAIL2BAN, "dies", {"BACKEND": action}, nat=False, **more)


def _sshuttle(backend: str, sign: str, method: str) -> Tool:
    return _tool(backend, sign, _SSHUTTLE, "dies", {"BACKEND": method}, nat=False)


_DOCKER = r"""
mkdir -p /etc/docker
echo '{"storage-driver": "vfs", "exec-opts": ["native.cgroupdriver=cgroupfs"]}' \
  > /etc/docker/daemon.json
dockerd &
timeout 60 sh -c 'until docker info > /dev/null 2>&1; do sleep 0.2; done'
"""
_UFW_ALONE = r"""
ufw allow 22/tcp
ufw route allow proto tcp to 172.17.0.2 port 443
ufw --force enable
"""
TOOLS = {
    "ufw": _tool(
        IPTABLES, "ufw-before-forward", _UFW, "lives dies lives", owner="ufw", reload="ufw reload"
    ),
    "firewalld": _firewalld(NFTABLES, "table inet firewalld"),
    "firewalld, IPv6": _firewalld(NFTABLES, "table inet firewalld", family=6),
    "firewalld's iptables": _firewalld(IPTABLES, "IN_external"),
    "firewalld 1's iptables": _firewalld(IPTABLES, "INPUT_ZONES", release="bookworm"),
    "shorewall": _shorewall("Invalid(DROP)", "lives lives lives"),
    "shorewall without its drop": _shorewall(
        "#", "lives dies lives", reload="shorewall reload", empties=True
    ),
    "ferm": _tool(IPTABLES, "--to-destination 172.17.0.2", _FERM, "lives lives lives"),
    "libvirt": _libvirt(NFTABLES, "libvirt_network"),
    "libvirt's iptables, IPv6": _libvirt(IPTABLES, "LIBVIRT_FWO", 6),
    "lxc-net, IPv6": _lxc(NFTABLES, "table inet lxc", 6),
    "lxc-net's iptables": _lxc(IPTABLES, "lxcbr0"),
    "podman": _tool(
        NFTABLES,
        "table inet netavark",
        _PODMAN,
        "dies lives dies",
        bridge="podman1",
        owner="podman",
        runs=True,
    ),
    "netavark, IPv6": _netavark(NFTABLES, "table inet netavark", 6),
    "netavark's iptables": _netavark(IPTABLES, "NETAVARK-DN"),
    "fail2ban": _fail2ban(NFTABLES, "f2b-chain", "nftables", reload="fail2ban-client reload"),
    "fail2ban's iptables": _fail2ban(IPTABLES, "f2b-sshd", "iptables-multiport"),
    "keepalived": _tool(NFTABLES, "@vips drop", _KEEPALIVED, "dies", nat=False),
    "sshuttle": _sshuttle(NFTABLES, "sshuttle-ipv4-12300", "nft"),
    "sshuttle's iptables": _sshuttle(IPTABLES, "sshuttle-12300", "nat"),
    "ufw and netavark": _tool(
        IPTABLES,
        "ufw-before-forward",
        _UFW_ALONE + _NETAVARK,
        "lives lives lives",
        {"BACKEND": IPTABLES, **_PODMAN_NETWORK[4]},
        bridge="podman0",
        owner="ufw",
    ),
    "firewalld and libvirt": _tool(
        NFTABLES,
        "libvirt",
        _FIREWALLD + _LIBVIRT,
        "lives",
        {"BACKEND": NFTABLES, "NETWORK": _LIBVIRT_NETWORK},
        bridge="virbr0",
        owner="firewalld",
    ),
    "ufw and docker": _tool(
        IPTABLES,
        "DOCKER-USER",
        _UFW_ALONE + _DOCKER,
        "lives",
        release="bookworm",
        owner="ufw",
        bridge="docker0",
    ),
    "docker and firewalld": _tool(
        NFTABLES,
        "DOCKER-USER",
        _FIREWALLD.replace(_TRUSTED, "") + _DOCKER,
        "lives",
        {"BACKEND": NFTABLES},
        release="bookworm",
        owner="firewalld",
    ),
}
