"""Faults as people reported them: where, what went wrong, and the tests that rebuild each."""

from __future__ import annotations

from typing import NamedTuple

ANSWERS = "kernel/test_udp_answers.py::test_"
DAEMONS = "kernel/test_daemons.py::test_each_is_proven_named_and_mended_by_the_option_named"
MATRIX = "kernel/test_harm_matrix.py::test_"
HEARD = "kernel/test_harm_heard.py::test_"
STALL = "kernel/test_invalid_stall.py::test_"
CASES = "unit/test_condition_cases.py::test_case"
STORY = "kernel/test_lab_story.py::test_"
ADVICE = "unit/test_advice.py::test_"
HERE = "kernel/test_public_reports.py::test_"
TOLD = "kernel/test_trace_faults.py::test_the_trace_alone_names_cause_rule_and_cure"
TWIN = f"{STORY}healthy_twin_calls_for_no_action"


class Report(NamedTuple):
    """One fault as people met it."""

    source: str
    what: str
    tests: tuple[str, ...]
    """The fault first; its twin may be in the same test."""


REPORTS = (
    Report(
        "firewalld/firewalld#1061, openwrt/openwrt#19359",
        "the host sees one direction of its network's connections; dropping INVALID ends them",
        (f"{MATRIX}dropping_every_invalid_segment_ends_what_lived",
         f"{MATRIX}the_liberal_conntrack_heals_everywhere_and_harms_nowhere",
         f"{HEARD}harm_is_undone"),
    ),
    Report(
        "cameronkerrnz.github.io, 2015, a published port",
        "a box moves sequence numbers but not SACK blocks; a reset becomes a hang",
        (f"{HEARD}a_hang_in_place_of_a_reset_is_no_success",
         f"{HEARD}what_lets_the_request_through_is_success"),
    ),
    Report(
        "the same, a service of the host itself",
        "the firewall's own drop of INVALID takes segments of a connection; no NAT",
        (f"{STALL}only_a_rule_that_drops_it_is_blamed_for_a_connection_that_stalls",
         f"{STALL}what_is_forwarded_to_a_bridge_is_led_by_its_links"),
    ),
    Report(
        "haproxy/haproxy#3503, XTLS/Xray-core#6716",
        "IP_PKTINFO is set, and some answers are sent without a source",
        (f"{ANSWERS}a_second_address_is_answered_from_another_one",
         f"{ANSWERS}the_healthy_twins_are_no_proof"),
    ),
    Report(
        "traefik/traefik#7430, AdguardTeam/AdGuardHome#1257",
        "a virtual IP beside the first address: it is asked, the first one answers",
        (f"{ANSWERS}a_second_address_is_answered_from_another_one",
         f"{ANSWERS}without_conntrack_the_packets_prove_it"),
    ),
    Report(
        "haproxy/haproxy#3503, the virtual IP on lo",
        "an address on the loopback that others are routed to",
        (f"{HERE}a_virtual_address_on_the_loopback", CASES),
    ),
    Report(
        "kubernetes/kubernetes#95565, kubernetes/kubernetes#94812",
        "a ClusterIP leads to a server of the same node, which answers from the bridge",
        (f"{ANSWERS}a_request_that_nat_turns_to_this_host",),
    ),
    Report(
        "eblocker/eblocker#320",
        "IPv6 DNS is turned to another port of the host, which answers from another address",
        (f"{ANSWERS}a_request_that_nat_turns_to_this_host", CASES),
    ),
    Report(
        "tftp-go-team/hooktftp#35",
        "the answer comes by a new socket, from the first address",
        (f"{ANSWERS}an_answer_from_a_port_of_its_own", CASES),
    ),
    Report(
        "containers/podman#23469, containers/netavark#1045",
        "a UDP flow is older than its DNAT rule and goes on without it",
        (f"{ANSWERS}a_flow_that_is_older_than_its_nat_rule_is_named_with_the_rule",
         f"{HERE}a_flow_that_was_deleted_meets_its_rule"),
    ),
    Report(
        "kubernetes/kubernetes#139628, containernetworking/plugins#123",
        "a UDP flow goes on to an address that is gone",
        (f"{HERE}a_flow_to_an_address_that_is_gone_accuses_nobody",),
    ),
    Report(
        "moby/moby#44688",
        "a flow that is older than the publishing passes docker-proxy; nobody else is accused",
        (f"{ANSWERS}a_flow_that_is_older_than_its_nat_rule_is_named_with_the_rule",
         f"{HERE}a_flow_that_was_deleted_meets_its_rule"),
    ),
    Report(
        "indifferentbroccoli/windrose-server-docker#23",
        "bound to the address asked, and it sends by another socket",
        (f"{ANSWERS}a_server_that_is_mended_is_mitigated_at_once",
         f"{ADVICE}a_server_that_is_bound_or_sets_the_option_is_not_told_to", CASES),
    ),
    Report(
        "kazu-yamamoto/quic#36",
        "127.0.0.2 is asked, 127.0.0.1 answers",
        (f"{ANSWERS}a_client_of_the_host_itself_that_asks_an_alias", CASES),
    ),
    Report(
        "moby/moby#22837, kubernetes/kubernetes#26718",
        "a TFTP server answers from another port, and NAT knows of no flow",
        (f"{ANSWERS}an_answer_from_another_port_to_a_client_behind_nat_asks_for_a_helper",
         f"{HERE}with_its_helper_tftp_is_answered"),
    ),
    Report(
        "hackerschoice/segfault#50",
        "a scanner in a container fills the table",
        (CASES, f"{ADVICE}what_makes_room_names_who_takes_it", f"{STORY}story_comes_out_as_told"),
    ),
    Report(
        "OpenVPN/openvpn#476",
        "a virtual IP of keepalived; the option is multihome or local",
        (DAEMONS,),
    ),
    Report(
        "esnet/iperf#637, esnet/iperf#2059",
        "an alias is asked; the server connects to its client; the option is -B",
        (DAEMONS,
         f"{ANSWERS}a_server_whose_udp_sockets_are_short_lived_is_known_by_its_tcp_listener",
         f"{ANSWERS}a_server_that_connects_to_its_client_is_that_and_nothing_else"),
    ),
    Report(
        "net-snmp/net-snmp#630, OpenVPN/openvpn#563",
        "IPv6 answers come from the temporary address",
        (f"{HERE}a_temporary_address_answers", DAEMONS, CASES),
    ),
    Report(
        "openSUSE/xinetd#16",
        "two uplinks; the second is asked, the first answers",
        (f"{HERE}the_other_uplink_answers",
         f"{ADVICE}two_uplinks_need_a_routing_rule_beside_the_address",
         "unit/test_fix_invalid_drop.py::test_several_ways_out_are_refused_with_the_alternative"),
    ),
    Report(
        "forum.snapcraft.io/t/775, imbstack.com, Debugging Docker Connection Reset",
        "a server ignores the window; the host resets the download",
        (f"{STORY}story_comes_out_as_told", f"{STORY}healthy_twin_calls_for_no_action",
         "kernel/test_shapes.py::test_a_well_known_ruleset"),
    ),
    Report(
        "openwrt/firewall4#14",
        "notrack for the host's own DNS takes forwarded DNS, too",
        (f"{HERE}notrack_of_the_hosts_own_dns",
         "kernel/test_notrack_traffic.py::test_what_becomes_of_each_kind_of_packet"),
    ),
    Report(
        "OpenSIPS/opensips#737",
        "the answer goes to the port that the client named; the host has no part in it",
        (f"{HERE}an_answer_to_another_port_of_the_client_accuses_nobody",),
    ),
    Report(
        "grokdatum.github.io, TCP RST after idle; moby/moby#34359",
        "conntrack forgot an idle connection; neither fix of NAT helps",
        ("kernel/test_forgotten_resets.py::test_what_conntrack_forgot_is_named_and_its_healthy_twin_"
         "is_silent", "unit/test_condition_idle_timeout.py::", f"{STORY}story_comes_out_as_told"),
    ),
    Report(
        "docker/for-linux#566",
        "docker-proxy answers a client outside from another IPv6 address of the host",
        (CASES, f"{ADVICE}clients_outside_are_not_told_to_ask_the_container_itself",
         f"{STORY}story_comes_out_as_told"),
    ),
)  # fmt: skip

VARIANTS = (
    Report(
        "of moby/moby#34359, over UDP",
        "conntrack forgot a masqueraded flow; what the server sends after that comes to the host",
        (f"{STORY}story_comes_out_as_told", TWIN, TOLD, CASES),
    ),
    Report(
        "of moby/moby#22837, FTP in active mode, or from another port than 20",
        "the server opens the data connection to the host, and NAT expects none",
        (f"{STORY}story_comes_out_as_told", TWIN, TOLD, CASES,
         f"{HERE}a_connection_for_the_data_of_a_session_of_ftp_is_known"),
    ),
    Report(
        "of moby/moby#22837, FTP in passive mode behind a published port",
        "the client opens the data connection to a port of the host that nobody has",
        (f"{HERE}a_connection_for_the_data_of_a_session_of_ftp_is_known", CASES),
    ),
    Report(
        "of kubernetes/kubernetes#139628, the source instead of the destination",
        "flows go on with a source address that has left the host",
        ("kernel/test_departed_sources.py::test_only_an_address_that_nobody_answers_for_is_told",
         f"{STORY}story_comes_out_as_told", TWIN, TOLD, CASES),
    ),
    Report(
        "of kubernetes/kubernetes#95565, in the container",
        "a container answers from its other address: a trace tells it, and a scan in it",
        (f"{HERE}a_container_that_answers_from_its_other_address",),
    ),
)  # fmt: skip
"""Faults like these that nobody of them reported."""
