"""Rules as other programs write them, which every Debian's own tools load: none is in our way."""

from __future__ import annotations

from remedies.lab.topology import addresses
from remedies.lab.world import World

DOCKER = """\
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 80
COMMIT
*filter
:DOCKER - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -o docker0 -j DOCKER
-A DOCKER-FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -m comment --comment "an admin's \\"own\\" rule" -j RETURN
COMMIT
*mangle
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
"""
UFW = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-before-forward - [0:0]
:ufw-logging-deny - [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-user-input
-A FORWARD -j ufw-before-forward
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-user-input -p udp -m multiport --dports 5060,56789 -j ACCEPT
COMMIT
*raw
-A PREROUTING -p tcp -m tcp --dport 9 -j DROP
COMMIT
"""
NATIVE = """
table inet firewalld {
  set ports {
    type inet_service
    flags interval
    elements = { 53, 5060-5070 }
  }
  map ways {
    type inet_service : verdict
    elements = { 9 : drop, 10 : goto deeper }
  }
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    tcp dport { 22, 80-90 } ct state { new, untracked } counter accept
    udp dport @ports accept comment "theirs; not ours"
    th dport vmap @ways
    log prefix "theirs: "
  }
  chain mangle {
    type filter hook prerouting priority mangle; policy accept;
    meta mark set 0x1
    limit rate 5/second burst 7 packets accept
    jump deeper
  }
  chain deeper {
    iifname "eth*" return
    counter comment "end"
  }
}
table ip6 theirs {
  chain raw {
    type filter hook prerouting priority raw; policy accept;
    ip6 daddr { ::/96, 2002::/24 } drop
  }
}
"""


def load(world: World) -> None:
    """Write them on the world's host with the tool that its options name."""
    nat = world.options.nat
    if nat == "nft":
        world.run("host", ["nft", "-f", "-"], NATIVE)
        return
    text = DOCKER if nat == "iptables-nft" else UFW
    for program in (nat, nat.replace("ip", "ip6", 1)):
        world.run("host", [f"{program}-restore", "--noflush"], text)


def publish_tcp(world: World, port: int) -> None:
    """Send TCP for the host's ``port`` on to the container, whose network the server knows."""
    at, nat = addresses(world), world.options.nat
    world.ip("server", f"route add {at.subnet} via {at.uplink}")
    if nat != "nft":
        program = nat if world.options.family == 4 else nat.replace("ip", "ip6", 1)
        match = ["-d", at.uplink, "-p", "tcp", "--dport", str(port)]
        rule = ["-A", "PREROUTING", *match, "-j", "DNAT", "--to", at.client]
        world.run("host", [program, "-w", "-t", "nat", *rule])
        return
    ip = "ip" if world.options.family == 4 else "ip6"
    chain = "{ type nat hook prerouting priority -100; }"
    rule_text = f"{ip} daddr {at.uplink} tcp dport {port} dnat to {at.client}"
    script = f"add table {ip} n\nadd chain {ip} n p {chain}\nadd rule {ip} n p {rule_text}\n"
    world.run("host", ["nft", "-f", "-"], script)
