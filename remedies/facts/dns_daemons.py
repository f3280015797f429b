"""DNS servers among the programs of :mod:`remedies.facts.daemons`, which says what a row means."""

from __future__ import annotations

from remedies.facts.daemon_option import DaemonOption

DNS = (
    DaemonOption(
        ("named",),
        "BIND 9",
        "named.conf, in options",
        "listen-on port {port} {{ {address}; }};",
        "BIND 9 ARM, listen-on and listen-on-v6; run",
        bind6="listen-on-v6 port {port} {{ {address}; }};",
    ),
    DaemonOption(
        ("unbound",),
        "unbound",
        "unbound.conf, in server:",
        "interface: {address}@{port}",
        "unbound.conf(5), interface and interface-automatic; run",
        keeps="interface-automatic: yes",
    ),
    DaemonOption(
        ("dnsmasq",),
        "dnsmasq",
        "/etc/dnsmasq.d/bind.conf",
        "listen-address={address}",
        "dnsmasq(8), --listen-address and --bind-interfaces; run",
        also=("bind-interfaces",),
    ),
    DaemonOption(
        ("coredns",),
        "CoreDNS",
        "the Corefile, in each server block",
        "bind {address}",
        "coredns: plugin/bind/README.md",
    ),
    DaemonOption(
        ("AdGuardHome",),
        "AdGuard Home",
        "AdGuardHome.yaml, under dns.bind_hosts",
        "- {address}",
        "AdGuardHome wiki, Configuration: dns.bind_hosts",
    ),
    DaemonOption(
        ("pihole-FTL",),
        "Pi-hole",
        "/etc/pihole/pihole.toml, in misc.dnsmasq_lines",
        '"listen-address={address}"',
        "docs.pi-hole.net, ftldns/configfile: misc.dnsmasq_lines, dns.listeningMode",
        also=('"bind-interfaces"',),
        note="Before Pi-hole 6 the same without quotes in a file in /etc/dnsmasq.d.",
    ),
    DaemonOption(
        ("nsd", "nsd: main", "nsd: xfrd"),
        "NSD",
        "nsd.conf, in server:",
        "ip-address: {address}@{port}",
        "nsd.conf(5), ip-address; run",
    ),
    DaemonOption(
        ("knotd",),
        "Knot DNS",
        "knot.conf, in server:",
        "listen: {address}@{port}",
        "Knot DNS documentation, reference: listen; right",
    ),
    DaemonOption(
        ("kresd", "kresd1"),
        "Knot Resolver",
        "kresd.conf",
        "net.listen('{address}', {port})",
        "Knot Resolver documentation: net.listen(); tried",
    ),
    DaemonOption(
        ("pdns_server",),
        "PowerDNS",
        "pdns.conf",
        "local-address={endpoint}",
        "PowerDNS documentation, settings: local-address; right",
    ),
    DaemonOption(
        ("pdns_recursor",),
        "PowerDNS Recursor",
        "recursor.conf",
        "local-address={endpoint}",
        "PowerDNS Recursor documentation, settings: local-address; right",
    ),
    DaemonOption(
        ("dnsdist",),
        "dnsdist",
        "dnsdist.conf",
        'addLocal("{endpoint}")',
        "dnsdist documentation, reference: addLocal(); right",
    ),
    DaemonOption(
        ("dnscrypt-proxy",),
        "dnscrypt-proxy",
        "dnscrypt-proxy.toml, in listen_addresses",
        "'{endpoint}'",
        "dnscrypt-proxy: example-dnscrypt-proxy.toml; bound",
    ),
    DaemonOption(
        ("systemd-resolve",),
        "systemd-resolved",
        "resolved.conf, in [Resolve]",
        "DNSStubListenerExtra=udp:{endpoint}",
        "resolved.conf(5), DNSStubListenerExtra; right",
    ),
    DaemonOption(
        ("gdnsd",),
        "gdnsd",
        "/etc/gdnsd/config, in options",
        'listen => "{endpoint}"',
        "gdnsd.config(5), listen; right",
    ),
)
