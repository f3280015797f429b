"""The option with which a program we know serves UDP from the address it was asked on.

Knowledge, not a probe: one row for each program. Most have an option that binds one address; some
have one that keeps every address and answers from the one asked (``keeps``). Each row names the
page it is taken from; those marked "run" are run by the tests with the program of Debian 12, those
marked "tried" were run by hand: asked by a wrong address, then again with the option.
"""

from __future__ import annotations

from remedies.values import NamedTuple


class DaemonOption(NamedTuple):
    """What to write where, so that one program answers from the right address."""

    names: tuple[str, ...]
    """The program's process names, as of /proc/PID/comm and argv[0]; comm has 15 bytes."""
    title: str
    where: str
    """The file, and the part of it, that takes the lines; empty: they go on the command line."""
    bind: str
    """What binds one address; ``{address}``, ``{port}`` and ``{endpoint}`` (both) are filled in.
    Empty: it has none."""
    source: str
    bind6: str = ""
    """The same for an IPv6 address where it is written otherwise."""
    also: tuple[str, ...] = ()
    """What is needed beside, once."""
    keeps: str = ""
    """What makes it answer from the address asked, on every address."""
    note: str = ""
    """A sentence on what else there is to know."""
    single: bool = False
    """It binds one address and no more."""


_EACH = "One such section for each address."

DAEMONS = (
    DaemonOption(
        ("openvpn",),
        "OpenVPN",
        "the server's .conf",
        "local {address}",
        "openvpn(8), --local and --multihome; run",
        keeps="multihome",
        single=True,
    ),
    DaemonOption(
        ("iperf3",),
        "iperf3",
        "",
        "--bind {address}",
        "iperf3(1), --bind; esnet/iperf#637; run",
        single=True,
    ),
    DaemonOption(
        ("snmpd",),
        "Net-SNMP's snmpd",
        "snmpd.conf",
        "agentAddress udp:{endpoint}",
        "snmpd.conf(5), agentaddress; snmpd(8), LISTENING ADDRESSES; run",
        bind6="agentAddress udp6:{endpoint}",
        note="Addresses on one line are separated by commas.",
    ),
    DaemonOption(
        ("in.tftpd",),
        "tftpd-hpa",
        "/etc/default/tftpd-hpa",
        'TFTP_ADDRESS="{endpoint}"',
        "in.tftpd(8), --address; Debian's tftpd-hpa.init; run",
        single=True,
        note="On the command line it is --address.",
    ),
    DaemonOption(
        ("atftpd",), "atftpd", "", "--bind-address {address}", "atftpd(8), --bind-address; tried"
    ),
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
        "Knot DNS documentation, reference: listen; tried",
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
        "PowerDNS documentation, settings: local-address",
    ),
    DaemonOption(
        ("pdns_recursor",),
        "PowerDNS Recursor",
        "recursor.conf",
        "local-address={endpoint}",
        "PowerDNS Recursor documentation, settings: local-address; tried",
    ),
    DaemonOption(
        ("dnsdist",),
        "dnsdist",
        "dnsdist.conf",
        'addLocal("{endpoint}")',
        "dnsdist documentation, reference: addLocal(); tried",
    ),
    DaemonOption(
        ("dnscrypt-proxy",),
        "dnscrypt-proxy",
        "dnscrypt-proxy.toml, in listen_addresses",
        "'{endpoint}'",
        "dnscrypt-proxy: example-dnscrypt-proxy.toml",
    ),
    DaemonOption(
        ("systemd-resolve",),
        "systemd-resolved",
        "resolved.conf, in [Resolve]",
        "DNSStubListenerExtra=udp:{endpoint}",
        "resolved.conf(5), DNSStubListenerExtra",
    ),
    DaemonOption(
        ("freeradius", "radiusd"),
        "FreeRADIUS",
        "sites-enabled/default, in its section listen",
        "ipaddr = {address}",
        "FreeRADIUS: raddb/sites-available/default; tried",
        bind6="ipv6addr = {address}",
        note="One section for each address and type (auth, acct).",
    ),
    DaemonOption(
        ("asterisk",),
        "Asterisk",
        "pjsip.conf, in the section of the udp transport",
        "bind={endpoint}",
        "Asterisk: configs/samples/pjsip.conf.sample",
        note=_EACH + " With the old chan_sip it is udpbindaddr in sip.conf.",
    ),
    DaemonOption(
        ("kamailio",),
        "Kamailio",
        "kamailio.cfg",
        "listen=udp:{endpoint}",
        "Kamailio core cookbook: listen; run",
    ),
    DaemonOption(
        ("opensips",),
        "OpenSIPS",
        "opensips.cfg",
        "socket=udp:{endpoint}",
        "OpenSIPS manual, core parameters: socket (3.x)",
        note="Before OpenSIPS 3.0 the parameter is 'listen'.",
    ),
    DaemonOption(
        ("freeswitch",),
        "FreeSWITCH",
        "sip_profiles/internal.xml",
        '<param name="sip-ip" value="{address}"/>',
        "FreeSWITCH: conf/vanilla/sip_profiles",
        note="The same value for rtp-ip.",
    ),
    DaemonOption(
        ("rtpengine",),
        "rtpengine",
        "rtpengine.conf",
        "listen-ng = {endpoint}",
        "rtpengine(8), --listen-ng",
    ),
    DaemonOption(
        ("turnserver",),
        "coturn",
        "turnserver.conf",
        "listening-ip={address}",
        "coturn: examples/etc/turnserver.conf; tried",
    ),
    DaemonOption(
        ("haproxy",),
        "HAProxy",
        "haproxy.cfg, in the frontend",
        "bind quic4@{endpoint}",
        "HAProxy configuration manual: bind; haproxy/haproxy#3503",
        bind6="bind quic6@{endpoint}",
        note="With its ssl options as they are. A newer HAProxy sets the source of Retry packets.",
    ),
    DaemonOption(
        ("traefik",),
        "Traefik",
        "",
        "--entryPoints.NAME.address={endpoint}/udp",
        "Traefik documentation: routing/entrypoints; traefik/traefik#7430",
        note="For HTTP/3 the entry point's address without '/udp'.",
    ),
    DaemonOption(
        ("nginx",),
        "nginx",
        "nginx.conf, in the server block",
        "listen {endpoint} quic;",
        "nginx documentation: ngx_http_v3_module, ngx_stream_core_module (listen)",
        note="In a stream server it is 'listen ADDRESS:PORT udp'.",
    ),
    DaemonOption(
        ("caddy",),
        "Caddy",
        "the Caddyfile, in the site",
        "bind {address}",
        "Caddy documentation: caddyfile/directives/bind; tried",
    ),
    DaemonOption(
        ("rsyslogd",),
        "rsyslog",
        "/etc/rsyslog.d/udp.conf",
        'input(type="imudp" address="{address}" port="{port}")',
        "rsyslog documentation: imudp; tried",
        note="A receiver that never answers is not hurt: a waiver for it is as good.",
    ),
    DaemonOption(
        ("syslog-ng",),
        "syslog-ng",
        "syslog-ng.conf, in the source",
        'network(ip("{address}") port({port}) transport("udp"));',
        "syslog-ng administration guide: network(); tried",
        bind6='network(ip("{address}") port({port}) transport("udp") ip-protocol(6));',
        note="A receiver that never answers is not hurt: a waiver for it is as good.",
    ),
    DaemonOption(
        ("ntpd",),
        "ntpd",
        "ntp.conf",
        "interface listen {address}",
        "ntp.conf(5), interface (NTPsec and the reference implementation); tried",
        also=("interface ignore wildcard",),
    ),
    DaemonOption(
        ("chronyd",),
        "chrony",
        "chrony.conf",
        "bindaddress {address}",
        "chrony.conf(5), bindaddress; run",
        single=True,
        note="One address of each IP version.",
    ),
    DaemonOption(
        ("wireguard-go", "boringtun", "boringtun-cli"),
        "WireGuard",
        "",
        "",
        "wg(8); wireguard-go: conn/sticky_linux.go",
        note="It has no listen address and answers from the address asked; where it does not, the "
        "route to the peer decides: ip route change PEER via ROUTER src ADDRESS.",
    ),
    DaemonOption(
        ("keepalived",),
        "keepalived",
        "keepalived.conf, in bfd_instance",
        "source_ip {address}",
        "keepalived.conf(5), bfd_instance",
        note="Other programs that bind an address which keepalived moves need "
        "net.ipv4.ip_nonlocal_bind=1 (or net.ipv6) on the host that has it not now.",
    ),
    DaemonOption(
        ("dockerd", "docker-proxy"),
        "Docker",
        "",
        "--publish {endpoint}:CONTAINER_PORT/udp",
        "docker run(1), --publish",
        note="From Docker 28.0.0 on docker-proxy answers from the address asked.",
    ),
    DaemonOption(
        ("rootlessport", "conmon", "pasta", "slirp4netns"),
        "podman",
        "",
        "--publish {endpoint}:CONTAINER_PORT/udp",
        "podman-run(1), --publish",
    ),
    DaemonOption(
        ("xl2tpd",),
        "xl2tpd",
        "xl2tpd.conf, in [global]",
        "listen-addr = {address}",
        "xl2tpd.conf(5), listen-addr; run",
    ),
    DaemonOption(
        ("mosh-server",),
        "mosh-server",
        "",
        "-i {address}",
        "mosh-server(1), -i; tried",
        keeps="-s",
        note="-s takes the address that the SSH connection came in by.",
    ),
    DaemonOption(
        ("murmurd", "mumble-server"),
        "Mumble",
        "mumble-server.ini",
        "host={address}",
        "Mumble documentation: host; tried",
    ),
    DaemonOption(
        ("memcached",),
        "memcached",
        "/etc/memcached.conf",
        "-l {address}",
        "memcached(1), --listen; run",
    ),
    DaemonOption(
        ("telegraf",),
        "Telegraf",
        "telegraf.conf, in the input",
        'service_address = "udp://{endpoint}"',
        "telegraf: plugins/inputs/socket_listener",
        note="A receiver that never answers is not hurt: a waiver for it is as good.",
    ),
    DaemonOption(
        ("socat", "socat1"),
        "socat",
        "",
        "UDP4-LISTEN:{port},bind={address}",
        "socat(1), bind; run",
        bind6="UDP6-LISTEN:{port},bind=[{address}]",
    ),
    DaemonOption(
        ("nc", "nc.openbsd", "ncat", "netcat"),
        "netcat",
        "",
        "-u -l {address} {port}",
        "nc(1) of OpenBSD; ncat(1), tried",
    ),
    DaemonOption(
        ("nc.traditional",), "netcat", "", "-u -l -s {address} -p {port}", "nc.traditional(1)"
    ),
)
