"""Real UDP daemons, unpacked by ``make test``: how each is set up, asked, and bound.

``wild`` is how it comes up on every address; the option of ``remedies/facts/daemons.py`` takes its
place in the second round. On the command line (``argv``) or in ``conf`` it stands for ``{bind}``.
"""

from __future__ import annotations

import hmac
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

UNPACKED = Path(__file__).resolve().parent.parent.parent / "build/daemons"
_LIBRARIES = UNPACKED / "usr/lib/x86_64-linux-gnu"
ENVIRONMENT = {
    **os.environ,
    "LD_LIBRARY_PATH": f"{_LIBRARIES}:{UNPACKED / 'lib/x86_64-linux-gnu'}",
    "PATH": f"{UNPACKED / 'usr/sbin'}:{UNPACKED / 'usr/bin'}:{os.environ['PATH']}",
}

_DNS = bytes.fromhex("123401000001000000000000") + b"\1x\0\0\1\0\1"
_SNMP = bytes.fromhex(
    "302902010104067075626c6963a01c020400000001020100020100300e300c06082b060102010101000500"
)
_SIP = (
    "OPTIONS sip:a@x SIP/2.0\r\nVia: SIP/2.0/UDP 172.17.0.2;branch=z9hG4bK1;rport\r\n"
    "From: <sip:b@x>;tag=1\r\nTo: <sip:a@x>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n"
    "Max-Forwards: 5\r\nContent-Length: 0\r\n\r\n"
)
_L2TP = bytes.fromhex(  # RFC 2661: a control message, SCCRQ, with what it has to have
    "c802003d0000000000000000"
    "80080000000000018008000000020100800a0000000300000003"
    "800700000007788008000000090001"
    "80080000000a0004"
)


def _status(secret: bytes) -> bytes:
    """Return a Status-Server request (RFC 5997)."""
    head, attribute = bytes.fromhex("0c010026") + bytes(16), bytes.fromhex("5012")
    return head + attribute + hmac.digest(secret, head + attribute + bytes(16), "md5")


@dataclass(frozen=True)
class Daemon:
    """One program, and a question that it answers."""

    process: str
    port: int
    argv: str
    question: bytes = b""
    """Empty: its own client asks."""
    conf: str = ""
    wild: str = ""
    broken: bool = False
    """It answers from the wrong address while it listens on every one."""
    starts_wrong: bool = False
    """Its first answer alone goes wrong: it asks for IP_PKTINFO once it has a request."""
    family: int = 4

    def start(self, folder: Path, lines: tuple[str, ...] = ()) -> list[str]:
        """Write the configuration and return the command line; ``lines``: bound by these."""
        bind = "\n".join(lines) or self.wild
        if bind.startswith("TFTP_ADDRESS="):  # Debian's start script makes it this option
            bind = "--address " + bind.partition("=")[2].strip('"')
        path = folder / f"{self.process}.conf"
        path.write_text(self.conf.replace("{bind}", bind).replace("{folder}", str(folder)))
        words = self.argv.replace("{bind}", bind).replace("{conf}", str(path))
        return words.replace("{folder}", str(folder)).replace("{modules}", str(_LIBRARIES)).split()


DAEMONS = (
    Daemon(
        "openvpn",
        1194,
        "openvpn --config {conf}",
        b"\x38" + bytes(range(8)) + bytes(5),
        "dev null\nproto udp\nport 1194\ntls-server\ndh none\n"
        "ca {folder}/c.pem\ncert {folder}/c.pem\nkey {folder}/k.pem\n{bind}\n",
        broken=True,
    ),
    Daemon("iperf3", 5201, "iperf3 -s {bind}", broken=True),
    Daemon(
        "snmpd",
        161,
        "snmpd -f -Lo -C -c {conf}",
        _SNMP,
        "{bind}\nrocommunity6 public\n",
        "agentAddress udp6:161",
        broken=True,
        family=6,
    ),
    Daemon(
        "unbound",
        53,
        "unbound -d -c {conf}",
        _DNS,
        'server:\n {bind}\n access-control: 0.0.0.0/0 allow\n chroot: ""\n username: ""\n'
        ' directory: "{folder}"\n pidfile: ""\n do-daemonize: no\n use-syslog: no\n'
        ' local-zone: "x." static\n local-data: "x. A 192.0.2.1"\n'
        "remote-control:\n control-enable: no\n",
        "interface: 0.0.0.0@53",
        broken=True,
    ),
    Daemon(
        "kamailio",
        5060,
        "kamailio -DD -E -f {conf} -L {modules}/kamailio/modules -Y {folder} -m 32 -M 8",
        _SIP.encode(),
        'loadmodule "sl.so"\n{bind}\nfork=no\nchildren=1\n'
        'request_route { sl_send_reply("200","OK"); }\n',
        "listen=udp:0.0.0.0:5060",
        broken=True,
    ),
    Daemon(
        "nsd",
        5303,
        "nsd -d -c {conf}",
        _DNS,
        'server:\n {bind}\n username: ""\n chroot: ""\n database: ""\n zonesdir: "{folder}"\n'
        ' pidfile: ""\n xfrdfile: "{folder}/xfrd"\n zonelistfile: "{folder}/zones"\n'
        " server-count: 1\nremote-control:\n control-enable: no\n",
        "ip-address: 0.0.0.0@5303",
        broken=True,
    ),
    Daemon(
        "memcached", 11211, "memcached -u root -p 0 -U 11211 {bind}",
        b"\0\1\0\0\0\1\0\0version\r\n", broken=True,
    ),
    Daemon(
        "xl2tpd",
        1701,
        "xl2tpd -D -c {conf} -p {folder}/pid -C {folder}/control -s {folder}/secrets",
        _L2TP,
        "[global]\naccess control = no\n{bind}\n"
        "[lns default]\nip range = 192.0.2.2-192.0.2.9\nlocal ip = 192.0.2.1\n",
        broken=True,
    ),
    Daemon(
        "socat", 5304, "socat {bind},fork PIPE", b"question", wild="UDP4-LISTEN:5304", broken=True
    ),
    Daemon(
        "xinetd",
        5305,
        "xinetd -dontfork -f {conf} -pidfile {folder}/xinetd.pid",
        b"question",
        "service echo\n{\n type = INTERNAL UNLISTED\n id = x\n port = 5305\n socket_type = dgram\n"
        " protocol = udp\n user = root\n wait = yes\n {bind}\n}\n",
        broken=True,
    ),
    Daemon(
        "radsecproxy",
        1812,
        "radsecproxy -f -c {conf}",
        _status(b"secret"),
        "{bind}\nclient 0.0.0.0/0 {\n type udp\n secret secret\n}\n"
        "server 127.0.0.2 {\n type udp\n secret secret\n}\nrealm * {\n server 127.0.0.2\n}\n",
        "ListenUDP *:1812",
        broken=True,
    ),
    Daemon(
        "dnsmasq",
        5301,
        "dnsmasq -k -C {conf}",
        _DNS,
        "no-resolv\nport=5301\naddress=/x/192.0.2.1\nuser=root\nlog-facility=-\npid-file=\n{bind}\n",
    ),
    Daemon(
        "named",
        5302,
        "named -g -n 1 -c {conf}",
        _DNS,
        'options {\n directory "{folder}";\n {bind}\n pid-file none;\n session-keyfile none;\n'
        " recursion no;\n};\ncontrols {};\n",
        "listen-on port 5302 { any; };",
    ),
    Daemon(
        "in.tftpd", 69, "in.tftpd -L -u root {bind} -s {folder}", b"\0\1in.tftpd.conf\0octet\0",
        wild="--address 0.0.0.0:69", starts_wrong=True,
    ),
    Daemon(
        "chronyd",
        123,
        "chronyd -d -x -u root -f {conf}",
        b"\x23" + bytes(47),
        "port 123\nallow all\nlocal stratum 5\ncmdport 0\nbindcmdaddress /\n"
        "pidfile {folder}/chrony.pid\n{bind}\n",
    ),
)  # fmt: skip


def certificate(folder: Path) -> None:
    """Make a key and a certificate for OpenVPN."""
    key, made = folder / "k.pem", folder / "c.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=x", "-days", "99", "-keyout", str(key), "-out", str(made)],
        check=True, capture_output=True,
    )  # fmt: skip
