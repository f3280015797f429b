"""Advice as text: short for everybody, long to paste, for every program we know."""

from __future__ import annotations

import ast
import sys
from typing import Any

import pytest
from builder import plan

from remedies.errors import InputError, RemedyError
from remedies.facts.daemon_lines import lines_of, option_of
from remedies.facts.daemon_option import DaemonOption
from remedies.facts.daemons import DAEMONS
from remedies.model import Advice
from remedies.planning.advice import advice_text, texts

VALUES: dict[str, object] = {
    "protocol": "udp",
    "port": "5060",
    "family": "4",
    "process": "sipd",
    "pid": "9",
    "unit": "sipd.service",
    "container": "",
    "container_name": "",
    "pod": "",
    "container_address": "",
    "container_port": "",
    "addresses": ("192.0.2.10", "2001:db8::10"),
    "asked": True,
    "argv": ("/usr/sbin/sipd", "-f", "sipd.conf"),
    "connects": False,
    "place": "unit",
}


def text(template: str = "bind", *, long: bool = True, **values: object) -> str:
    advice = Advice("bind-advice", "id", "title", template, {**VALUES, **values})
    return advice_text(advice, long=long)


def test_the_short_text_names_process_place_and_addresses() -> None:
    assert text(long=False) == (
        "Let sipd (process 9, of sipd.service) bind to 192.0.2.10:5060 or [2001:db8::10]:5060 "
        "(the address clients asked) instead of every address, or set IP_PKTINFO on its socket "
        "and answer from the address asked. 'remedy plan -v' shows how."
    )
    assert "bind to the one address" in text(long=False, addresses=())
    assert "the server" in text(long=False, process="", place="unknown")


KNOWN = {
    "openvpn": ("local 192.0.2.10", "multihome"),
    "iperf3": ("--bind 192.0.2.10",),
    "snmpd": ("agentAddress udp:192.0.2.10:5060", "agentAddress udp6:[2001:db8::10]:5060"),
    "in.tftpd": ('TFTP_ADDRESS="192.0.2.10:5060"',),
    "dnsmasq": ("listen-address=192.0.2.10", "listen-address=2001:db8::10", "bind-interfaces"),
    "unbound": ("interface: 192.0.2.10@5060", "interface-automatic: yes"),
    "named": ("listen-on port 5060 { 192.0.2.10; };", "listen-on-v6 port 5060 { 2001:db8::10; };"),
    "coredns": ("bind 192.0.2.10", "bind 2001:db8::10"),
    "AdGuardHome": ("- 192.0.2.10", "dns.bind_hosts"),
    "pihole-FTL": ('"listen-address=192.0.2.10"', '"bind-interfaces"'),
    "kamailio": ("listen=udp:192.0.2.10:5060", "listen=udp:[2001:db8::10]:5060"),
    "opensips": ("socket=udp:192.0.2.10:5060",),
    "asterisk": ("bind=192.0.2.10:5060", "bind=[2001:db8::10]:5060"),
    "freeradius": ("ipaddr = 192.0.2.10", "ipv6addr = 2001:db8::10"),
    "haproxy": ("bind quic4@192.0.2.10:5060", "bind quic6@[2001:db8::10]:5060"),
    "traefik": ("--entryPoints.NAME.address=192.0.2.10:5060/udp",),
    "nginx": ("listen 192.0.2.10:5060 quic;",),
    "syslog-ng": ('network(ip("192.0.2.10") port(5060) transport("udp"));', "ip-protocol(6)"),
    "rsyslogd": ('input(type="imudp" address="192.0.2.10" port="5060")',),
    "ntpd": ("interface listen 192.0.2.10", "interface ignore wildcard"),
    "chronyd": ("bindaddress 192.0.2.10",),
    "wireguard-go": ("src ADDRESS",),
    "keepalived": ("source_ip 192.0.2.10", "ip_nonlocal_bind=1"),
    "dockerd": ("--publish 192.0.2.10:5060:CONTAINER_PORT/udp",),
    "rootlessport": ("--publish 192.0.2.10:5060:CONTAINER_PORT/udp",),
    "nc": ("-u -l 192.0.2.10 5060",),
}


@pytest.mark.parametrize("program", KNOWN)
def test_a_known_program_is_told_by_its_own_option(program: str) -> None:
    said = text(process=program)
    for line in KNOWN[program]:
        assert line in said
    assert ("systemctl restart sipd.service" in said) == (program != "wireguard-go")
    assert "LISTEN-OPTION" not in said
    assert "In your own code" not in said


@pytest.mark.parametrize("row", DAEMONS, ids=lambda row: row.names[0])
def test_every_row_can_be_written_and_has_its_source(row: DaemonOption) -> None:
    assert row.source
    assert row.bind or row.note
    for address in ("192.0.2.10", "2001:db8::10"):
        lines = lines_of(row, (address,), "5060")
        assert not lines or address in lines[0]
        assert not any("{a" in line or "{p" in line or "{e" in line for line in lines)
    for name in row.names:
        assert len(name) <= 15, "comm has 15 bytes"
        assert option_of(name) is row, "each name is in one row"
    assert row.keeps not in lines_of(row, ("192.0.2.10",), "1")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("teeworlds-serve", "bindaddr [2001:db8::10]"),
        ("socat", "UDP6-LISTEN:5060,bind=[2001:db8::10]"),
        ("turnserver", "listening-ip=2001:db8::10"),
    ],
)
def test_an_ipv6_address_is_written_as_the_program_reads_it(name: str, line: str) -> None:
    row = option_of(name)
    assert row is not None
    assert lines_of(row, ("2001:db8::10",), "5060") == (line,)


def test_a_program_is_known_by_what_it_was_started_as() -> None:
    found = option_of("worker-3", ("/usr/sbin/unbound", "-d"))
    assert found == option_of("unbound")
    assert option_of("python3", ("python3", "unbound.py")) is None
    assert option_of("", ()) is None


def test_the_short_text_of_a_known_program_is_its_line() -> None:
    said = text(long=False, process="openvpn", addresses=("192.0.2.10",))
    assert "'local 192.0.2.10'" in said
    assert "'multihome'" in said
    assert "IP_PKTINFO" not in said
    assert "--bind 192.0.2.10" in text(long=False, process="iperf3", addresses=("192.0.2.10",))
    for addresses, said in ((("192.0.2.10",), "192.0.2.10"), ((), "ADDRESS")):
        _, _, recipe = text(process="openvpn", addresses=addresses).partition("\n\n")
        assert f"local {said}" in recipe
    assert "'bindaddress ADDRESS'" in text(long=False, process="chronyd", addresses=())
    unasked = text(long=False, process="snmpd", asked=False)
    assert "agentAddress udp:192.0.2.10:5060" in unasked
    assert "2001:db8::10" not in unasked


def test_an_unknown_unit_gets_an_override_with_its_own_command_line() -> None:
    said = text()
    assert "systemctl edit sipd.service" in said
    assert "ExecStart=\n" in said
    assert "ExecStart=/usr/sbin/sipd -f sipd.conf LISTEN-OPTION 192.0.2.10" in said
    assert "systemctl edit sipd.socket" in said
    assert "ListenDatagram=[2001:db8::10]:5060" in said


def test_own_code_gets_a_recipe_in_four_languages_with_the_port() -> None:
    said = text(place="process", unit="")
    for recipe in (
        "htons(5060)",
        'server.bind(("::", 5060))',
        'net.ListenPacket("udp4", ":5060")',
        'UdpSocket::bind("0.0.0.0:5060")',
    ):
        assert recipe in said
    assert "{{" not in said
    assert "systemctl" not in said


def test_a_container_on_the_hosts_network_gets_run_and_compose() -> None:
    said = text(place="container", container="0123456789ab", unit="")
    assert "--publish 192.0.2.10:5060:5060/udp" in said
    assert '- "[2001:db8::10]:5060:5060/udp"' in said


def test_a_pod_with_the_hosts_network_gets_its_nodes_address() -> None:
    place: dict[str, Any] = {
        "place": "container",
        "container": "0123456789ab",
        "unit": "",
        "pod": "6d2b0f3a",
    }
    for process, line in (("coredns", "bind 192.0.2.10"), ("sipd", "bind to 192.0.2.10:5060")):
        short = text(long=False, process=process, **place)
        assert line in short
        assert "status.hostIP" in short
        said = text(process=process, **place)
        assert "fieldPath: status.hostIP" in said
        assert "status.podIPs" in said
        assert "docker run" not in said
    assert "status.hostIP" not in text(process="coredns")


def test_advice_is_told_by_its_place_in_the_plan() -> None:
    """As JSON and the audit record have it."""
    known = Advice("bind-advice", "id", "title", "bind", VALUES)
    other = Advice("flow-advice", "id", "title", "pressure", PRESSURE)
    told = texts(plan(advice=(known, other)))
    assert told == {0: advice_text(known), 1: advice_text(other)}


def test_the_long_text_keeps_the_lines_that_are_pasted_together() -> None:
    said = text()
    assert f"As a unit of systemd (sipd.service)\n{'-' * 35}\n    systemctl edit sipd" in said
    assert "    [Service]\n    ExecStart=\n    ExecStart=/usr/sbin/sipd" in said
    assert "    [Socket]\n    ListenDatagram=\n    ListenDatagram=192.0.2.10:5060\n" in said


BIND_WORDS: list[tuple[str, dict[str, object]]] = [
    ("Let the server (process 9, of sipd.service) bind to", {"process": ""}),
    ("Let sipd (process 9) bind to", {"place": "process"}),
    ("Let sipd (process 9, in container 01) bind to", {"place": "container", "container": "01"}),
    ("(the address clients asked) instead", {"asked": True}),
    ("(the one that its clients ask) instead", {"asked": False}),
    ("worker-3 (process 9, of sipd.service): write 'interface: ", {
        "process": "worker-3", "argv": ("/usr/sbin/unbound", "-d")}),
    ("(with the address that its clients ask)", {"process": "openvpn", "asked": False}),
    ("write 'local 192.0.2.10' into", {"process": "openvpn", "argv": ()}),
    ("write 'local 192.0.2.10' into", {"process": "openvpn", "argv": None}),
    ("instead of every address, or set IP_PKTINFO", {"uplink": None}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "edit"), BIND_WORDS)
def test_a_server_is_told_by_what_is_known_of_it(words: str, edit: dict[str, Any]) -> None:
    said = text(long=False, **edit)
    assert words in said
    assert ("with the address that its clients ask" in said) == (
        edit.get("process") == "openvpn" and edit.get("asked") is False
    )


@pytest.mark.parametrize(
    ("name", "address", "port", "words"),
    [
        ("web", "172.18.0.2", "53", "ask web itself, port 53;"),
        ("", "172.18.0.2", "53", "ask 172.18.0.2 itself, port 53;"),
        ("", "", "", "ask the container itself, port 5060;"),
    ],
)
def test_a_container_is_told_by_name_or_address(
    name: str, address: str, port: str, words: str
) -> None:
    known = {"container_name": name, "container_address": address, "container_port": port}
    assert words in text("proxy", long=False, **known)
    assert "--publish" not in text("proxy", long=False, addresses=(), **known)


def test_a_connecting_server_is_told_why() -> None:
    assert "connected its socket" in text(connects=True, process="nc")
    assert "connected its socket" not in text(process="nc")


def test_without_an_address_an_example_is_given() -> None:
    assert "192.0.2.10" in text(addresses=())
    assert "2001:db8::10" in text(addresses=(), family="6")


def test_the_proxys_advice_is_about_docker() -> None:
    values: dict[str, Any] = {
        "container_name": "web",
        "container_address": "172.18.0.2",
        "container_port": "53",
    }
    short = text("proxy", long=False, process="docker-proxy", **values)
    assert "28.0.0" in short
    assert "--publish 192.0.2.10:5060:53/udp" in short
    said = text("proxy", process="docker-proxy", **values)
    assert "web:53   (now 172.18.0.2:53)" in said
    assert '{ "userland-proxy": false }' in said
    assert '- "192.0.2.10:5060:53/udp"' in said
    assert "NAME:5060" in text("proxy", process="docker-proxy")


def test_what_a_newer_version_saved_is_shown_whole() -> None:
    assert "port: 5060" in advice_text(Advice("x", None, "t", "unheard-of", VALUES), long=True)


@pytest.mark.parametrize("missing", ["addresses", "process", "asked", "place"])
def test_an_advice_that_lacks_a_value_names_its_fix_and_asks_for_a_new_plan(missing: str) -> None:
    left = {key: value for key, value in VALUES.items() if key != missing}
    with pytest.raises(InputError) as raised:
        advice_text(Advice("bind-advice", "id", "title", "bind", left))
    assert "bind-advice" in str(raised.value)
    assert missing in str(raised.value)
    assert raised.value.hint == "make a new plan"


@pytest.mark.parametrize("missing", ["container", "family", "connects", "argv"])
def test_what_only_the_long_text_needs_is_missed_there_alone(missing: str) -> None:
    place: dict[str, object] = {
        **VALUES,
        "place": "container",
        "container": "0123",
        "addresses": (),
    }
    values = place if missing == "container" else {**VALUES, "addresses": ()}
    left = {key: value for key, value in values.items() if key != missing}
    advice = Advice("bind-advice", "id", "title", "bind", left)
    if missing != "container":
        assert "bind to the one address" in advice_text(advice)
    with pytest.raises(InputError, match=missing):
        advice_text(advice, long=True)


def test_without_the_library_the_long_text_says_how_to_add_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert text(long=False).startswith("Let sipd ")
    with pytest.raises(RemedyError) as raised:
        text()
    assert "Jinja2" in str(raised.value)
    assert str(raised.value.hint).endswith(" install Jinja2")


def test_what_policy_only_advises_names_what_it_would_change_and_the_line_to_write() -> None:
    values: dict[str, object] = {
        "resources": ("sysctl:net.a", "sysctl:net.b"),
        "condition": "stale-flow",
    }
    said = advice_text(Advice("f", "id", "title", "fix", values), long=True)
    assert "(sysctl:net.a, sysctl:net.b)" in said
    assert "'mode: fix' for stale-flow in the policy" in said


def test_the_python_recipe_is_python() -> None:
    said = text(place="process", unit="")
    block = said.split("\nPython\n\n")[1].split("\n\nGo (")[0]
    ast.parse("\n".join(line[4:] for line in block.splitlines()))


def test_a_server_that_is_bound_or_sets_the_option_is_not_told_to() -> None:
    said = text("sends", long=False, sends="other-socket", addresses=("192.0.2.10",))
    assert "bound to 192.0.2.10:5060 already" in said
    assert "by the socket that was asked" in said
    said = text("sends", long=True, sends="unsourced", addresses=("2001:db8::10",))
    assert said.startswith("sipd (process 9, of sipd.service) asks for IP_PKTINFO")
    assert "bind to [2001:db8::10]:5060" in said
    said = text("sends", long=False, sends="unsourced", process="radsecproxy", argv=())
    assert "or write 'ListenUDP 192.0.2.10:5060' and " in said


def test_two_uplinks_need_a_routing_rule_beside_the_address() -> None:
    said = text(long=False, uplink="198.51.100.2/eth0")
    assert "still leave by eth0" in said
    assert "ip rule add from 198.51.100.2 lookup" in said
    assert "ip rule" not in text(long=False, uplink="")


def test_clients_outside_are_not_told_to_ask_the_container_itself() -> None:
    values = {"container_name": "web", "container_port": "53", "addresses": ("192.0.2.10",)}
    said = text("proxy", long=False, clients="outside", **values)
    assert said.startswith("Publish port 5060 of web on the one address")
    assert "--publish 192.0.2.10:5060:53/udp" in said
    assert "of its network" not in said
    assert text("proxy", long=False, **values).startswith("Let containers of its network ask web")


PRESSURE: dict[str, object] = {
    "source": "172.17.0.2",
    "source_container": "web",
    "source_flows": "225000",
    "source_protocol": "tcp",
    "source_state": "SYN_SENT",
    "process": "",
    "protocol": "",
    "address": "",
    "port": "",
    "timeout": "net.netfilter.nf_conntrack_tcp_timeout_syn_sent",
    "bytes": "300",
}


def test_what_makes_room_names_who_takes_it() -> None:
    said = advice_text(Advice("flow-advice", "id", "title", "pressure", PRESSURE))
    assert said.startswith("Look at what container web (172.17.0.2) does: it began 225000 tcp")
    assert "(SYN_SENT)" in said
    assert "nf_conntrack_tcp_timeout_syn_sent" in said
    assert "notrack" not in said
    service: dict[str, object] = {
        **PRESSURE,
        "source": "",
        "timeout": "",
        "port": "53",
        "address": "192.0.2.1",
    }
    said = advice_text(Advice("flow-advice", "id", "title", "pressure", service))
    assert said.startswith("Keep the service (")
    named = {**service, "process": "named"}
    said = advice_text(Advice("flow-advice", "id", "title", "pressure", named))
    assert said.startswith("Keep named (")
    assert "192.0.2.1:53" in said
    assert "raise net.netfilter.nf_conntrack_max" in said
