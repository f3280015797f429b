"""NAT of Docker, kube-proxy, netavark and the CNI's portmap plugin, as each writes it.

Each shape sends one port (:data:`PORTS`) on, for UDP and TCP alike. kube-proxy's services have two
endpoints, of which chance chooses one; the others have one.
"""

from __future__ import annotations

from remedies.lab.topology import addresses
from remedies.lab.world import World

SHAPES = ("docker", "docker-legacy", "kube-iptables", "kube-nft", "netavark", "portmap")
PORTS = {name: 6000 + number for number, name in enumerate(SHAPES)}
TWIN = 100
"""Further up is the port of a shape's healthy twin, whose endpoint never changes."""
VIP = {4: "10.96.0.10", 6: "fd96::10"}
"""The address of both Kubernetes services, which nobody has."""


def load(world: World, targets: dict[str, str], twin: str) -> None:
    """Load each shape with its target, and twins that go to ``twin``, in place of any before.

    A shape without a target has no rule.
    """
    family = world.options.family
    both = [(PORTS[name], to) for name, to in targets.items()]
    shapes = {
        name: [(p, to) for p, to in both if p == PORTS[name]] + [(PORTS[name] + TWIN, twin)]
        for name in SHAPES
    }
    tool = "iptables" if family == 4 else "ip6tables"
    xtables = _docker(shapes["docker"]), _kube(world, shapes["kube-iptables"])
    _restore(world, f"{tool}-nft-restore", *xtables, _portmap(shapes["portmap"]))
    _restore(world, f"{tool}-legacy-restore", _docker(shapes["docker-legacy"]))
    nft = _kube_nft(world, shapes["kube-nft"]) + _netavark(world, shapes["netavark"])
    world.run("host", ["nft", "-f", "-"], nft)


def asked(world: World, name: str) -> str:
    """Return the address that a shape's clients ask."""
    return VIP[world.options.family] if name.startswith("kube") else addresses(world).uplink


def _at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _restore(world: World, program: str, *parts: tuple[list[str], list[str]]) -> None:
    chains = [f":{name} - [0:0]" for names, _ in parts for name in names]
    rules = [rule for _, found in parts for rule in found]
    world.run("host", [program], "\n".join(["*nat", *chains, *rules, "COMMIT", ""]))


def _docker(ways: list[tuple[int, str]]) -> tuple[list[str], list[str]]:
    return ["DOCKER"], [
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
        "-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER",
        "-A DOCKER -i docker0 -j RETURN",
        *(
            f"-A DOCKER ! -i docker0 -p {kind} -m {kind} --dport {port} "
            f"-j DNAT --to-destination {_at(to, port)}"
            for port, to in ways
            for kind in ("udp", "tcp")
        ),
    ]


def _kube(world: World, ways: list[tuple[int, str]]) -> tuple[list[str], list[str]]:
    """Two endpoints, of which a client keeps the one that it had for three hours."""
    subnet, vip = addresses(world).subnet, VIP[world.options.family]
    chains = ["KUBE-SERVICES", "KUBE-MARK-MASQ"]
    rules = [
        '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
    ]
    for port, to in ways:
        for kind in ("udp", "tcp"):
            service = f"KUBE-SVC-{kind}{port}"
            ends = [f"KUBE-SEP-{kind}{port}-{number}" for number in range(2)]
            chains += [service, *ends]
            of_service = f"-d {vip} -p {kind} -m {kind} --dport {port}"
            rules += [
                f'-A KUBE-SERVICES {of_service} -m comment --comment "a/b cluster IP" -j {service}',
                f"-A {service} ! -s {subnet} {of_service} -j KUBE-MARK-MASQ",
                f"-A {service} -m statistic --mode random --probability 0.5 -j {ends[0]}",
                f"-A {service} -j {ends[1]}",
            ]
            for end in ends:
                rules += [
                    f"-A {end} -s {to} -j KUBE-MARK-MASQ",
                    f"-A {end} -p {kind} -m {kind} -j DNAT --to-destination {_at(to, port)}",
                ]
    return chains, rules


def _portmap(ways: list[tuple[int, str]]) -> tuple[list[str], list[str]]:
    chains = ["CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK"]
    rules = [
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "-A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000",
    ]
    for port, to in ways:
        for kind in ("udp", "tcp"):
            chain = f"CNI-DN-{kind}{port}"
            chains.append(chain)
            rules += [
                f'-A CNI-HOSTPORT-DNAT -p {kind} -m comment --comment "dnat name: \\"x\\"" '
                f"-m multiport --dports {port} -j {chain}",
                f"-A {chain} -s 127.0.0.1 -p {kind} -m {kind} --dport {port} "
                "-j CNI-HOSTPORT-SETMARK"
                if ":" not in to
                else f"-A {chain} -s ::1 -p {kind} -m {kind} --dport {port} "
                "-j CNI-HOSTPORT-SETMARK",
                f"-A {chain} -p {kind} -m {kind} --dport {port} "
                f"-j DNAT --to-destination {_at(to, port)}",
            ]
    return chains, rules


def _kube_nft(world: World, ways: list[tuple[int, str]]) -> str:
    ip = "ip" if world.options.family == 4 else "ip6"
    kind, vip = f"{'ipv4' if ip == 'ip' else 'ipv6'}_addr", VIP[world.options.family]
    chains, elements = [], []
    for port, to in ways:
        for protocol in ("udp", "tcp"):
            name = f"{protocol}{port}"
            for number in range(2):
                chains.append(
                    f"chain endpoint-{name}-{number} {{\n"
                    f" {ip} saddr {to} jump mark-for-masquerade\n"
                    f" meta l4proto {protocol} dnat to {_at(to, port)}\n}}\n"
                )
            chains.append(
                f"chain service-{name} {{\n numgen random mod 2 vmap "
                f"{{ 0 : goto endpoint-{name}-0, 1 : goto endpoint-{name}-1 }}\n}}\n"
            )
            elements.append(f"{vip} . {protocol} . {port} : goto service-{name}")
    return (
        f"table {ip} kube-proxy {{\n}}\ndelete table {ip} kube-proxy\ntable {ip} kube-proxy {{\n"
        f"chain mark-for-masquerade {{\n meta mark set mark or 0x4000\n}}\n{''.join(chains)}"
        f"map service-ips {{\n type {kind} . inet_proto . inet_service : verdict\n"
        f" elements = {{ {', '.join(elements)} }}\n}}\n"
        f"chain services {{\n {ip} daddr . meta l4proto . th dport vmap @service-ips\n}}\n"
        "chain nat-prerouting {\n type nat hook prerouting priority -100; jump services\n}\n}\n"
    )


def _netavark(world: World, ways: list[tuple[int, str]]) -> str:
    ip, subnet = "ip" if world.options.family == 4 else "ip6", addresses(world).subnet
    jumps, rules = [], []
    for port, to in ways:
        for kind in ("udp", "tcp"):
            jumps.append(f" {kind} dport {port} jump nv_net_dnat\n")
            rules.append(
                f" {ip} saddr {subnet} {kind} dport {port} jump NETAVARK-HOSTPORT-SETMARK\n"
            )
            rules.append(f" {kind} dport {port} dnat {ip} to {_at(to, port)}\n")
    return (
        "table inet netavark {\n}\ndelete table inet netavark\ntable inet netavark {\n"
        "chain NETAVARK-HOSTPORT-SETMARK {\n meta mark set meta mark | 0x00002000\n}\n"
        f"chain nv_net_dnat {{\n{''.join(rules)}}}\n"
        f"chain NETAVARK-HOSTPORT-DNAT {{\n{''.join(jumps)}}}\n"
        "chain PREROUTING {\n type nat hook prerouting priority dstnat; policy accept;\n"
        " fib daddr type local jump NETAVARK-HOSTPORT-DNAT\n}\n}\n"
    )
