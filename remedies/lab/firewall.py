"""The rules other people write: NAT, notrack, a stateful filter, by nft or by either iptables."""

from __future__ import annotations

from dataclasses import dataclass

from remedies.lab.world import World


@dataclass(frozen=True)
class Firewall:
    """The rules of a world's host, written with the tool that the world's options name."""

    world: World

    @property
    def _ip(self) -> str:
        return "ip" if self.world.options.family == 4 else "ip6"

    def _iptables(self, table: str, *arguments: str) -> None:
        kind = self.world.options.nat
        tool = kind if self._ip == "ip" else kind.replace("ip", "ip6", 1)
        self.world.run("host", [tool, "-w", "-t", table, *arguments])

    def _nft(self, *lines: str) -> None:
        self.world.run("host", ["nft", "-f", "-"], "\n".join(lines) + "\n")

    def masquerade(self, subnet: str, bridge: str, ports: str = "") -> None:
        """Hide ``subnet`` behind the host on every way out but ``bridge``, as Docker does.

        ``ports``: TCP alone, by these source ports.
        """
        if self.world.options.nat != "nft":
            match = ["-s", subnet, "!", "-o", bridge, *(["-p", "tcp"] if ports else [])]
            given = ["--to-ports", ports] if ports else []
            self._iptables("nat", "-A", "POSTROUTING", *match, "-j", "MASQUERADE", *given)
            return
        tcp, to = ("meta l4proto tcp ", f" to :{ports}") if ports else ("", "")
        self._nft(
            f"add table {self._ip} lab_nat",
            f"add chain {self._ip} lab_nat postrouting"
            " { type nat hook postrouting priority 100; policy accept; }",
            f"add rule {self._ip} lab_nat postrouting"
            f' {tcp}{self._ip} saddr {subnet} oifname != "{bridge}" counter masquerade{to}',
        )

    def flush(self) -> None:
        """Flush what others made, too: all of nft's, or the table nat of iptables."""
        if self.world.options.nat == "nft":
            self._nft("flush ruleset")
        else:
            self._iptables("nat", "-F")

    def publish(self, address: str, port: int, target: str) -> None:
        """Send UDP for ``address``:``port`` on to ``target``, same port, as ``docker run -p``."""
        if self.world.options.nat != "nft":
            match = ["-d", address, "-p", "udp", "--dport", str(port)]
            self._iptables("nat", "-A", "PREROUTING", *match, "-j", "DNAT", "--to", target)
            return
        self._nft(
            f"add table {self._ip} lab_nat",
            f"add chain {self._ip} lab_nat prerouting"
            " { type nat hook prerouting priority -100; policy accept; }",
            f"add rule {self._ip} lab_nat prerouting"
            f" {self._ip} daddr {address} udp dport {port} counter dnat to {target}",
        )

    def published(self, port: int) -> tuple[str, ...]:
        """Return what the rule of :meth:`publish` contains as its own tool prints it."""
        if self.world.options.nat == "nft":
            return (f"udp dport {port}", "dnat to")
        return (f"--dport {port}", "-j DNAT")

    def stateful(self, port: int) -> None:
        """Accept what is established, drop what is INVALID, accept TCP to ``port``, as most do."""
        if self.world.options.nat != "nft":
            state = ["-m", "conntrack", "--ctstate"]
            for match in (
                [*state, "ESTABLISHED,RELATED", "-j", "ACCEPT"],
                [*state, "INVALID", "-j", "DROP"],
                ["-p", "tcp", "--dport", str(port), "-j", "ACCEPT"],
            ):
                self._iptables("filter", "-A", "INPUT", *match)
            return
        self._nft(
            f"add table {self._ip} lab_filter",
            f"add chain {self._ip} lab_filter input"
            " { type filter hook input priority 0; policy accept; }",
            *(
                f"add rule {self._ip} lab_filter input {rule}"
                for rule in (
                    "ct state established,related counter accept",
                    "ct state invalid counter drop",
                    f"tcp dport {port} counter accept",
                )
            ),
        )

    def drops_range(self, addresses: str, order: tuple[str, ...], *, again: bool = False) -> None:
        """Drop UDP from a range, and accept what is established, in this order, at the host.

        As a VPN's daemon does it: by another link than its own. ``again``: in place of these rules.
        """
        if self.world.options.nat != "nft":
            if again:
                self._iptables("filter", "-F", "INPUT")
            for word in order:
                match = ["-s", addresses, "!", "-i", "tailscale0", "-p", "udp", "-j", "DROP"]
                if word == "accept":
                    match = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"]
                self._iptables("filter", "-A", "INPUT", *match)
            return
        rules = {
            "accept": "ct state established,related counter accept",
            "drop": f'iifname != "tailscale0" {self._ip} saddr {addresses} meta l4proto udp drop',
        }
        chain = f"{self._ip} lab_filter input"
        self._nft(
            f"add table {self._ip} lab_filter",
            f"add chain {chain} {{ type filter hook input priority 0; policy accept; }}",
            *((f"flush chain {chain}",) if again else ()),
            *(f"add rule {chain} {rules[word]}" for word in order),
        )

    def keeps_out(self, address: str, bridge: str) -> None:
        """Drop what is for a container's own address by any other link, as Docker 28 does."""
        if self.world.options.nat != "nft":
            match = ["-d", address, "!", "-i", bridge]
            self._iptables("raw", "-A", "PREROUTING", *match, "-j", "DROP")
            return
        chain = f"{self._ip} lab_raw prerouting"
        self._nft(
            f"add table {self._ip} lab_raw",
            f"add chain {chain} {{ type filter hook prerouting priority -300; policy accept; }}",
            f'add rule {chain} {self._ip} daddr {address} iifname != "{bridge}" counter drop',
        )

    def drops_invalid(self) -> None:
        """Drop what conntrack calls INVALID of what is forwarded."""
        if self.world.options.nat != "nft":
            state = ["-m", "conntrack", "--ctstate", "INVALID"]
            self._iptables("filter", "-A", "FORWARD", *state, "-j", "DROP")
            return
        chain = f"{self._ip} lab_filter forward"
        self._nft(
            f"add table {self._ip} lab_filter",
            f"add chain {chain} {{ type filter hook forward priority 0; policy accept; }}",
            f"add rule {chain} ct state invalid counter drop",
        )

    def lets_by(self, address: str, port: int) -> None:
        """Accept what is forwarded to a TCP port, before every other rule of that chain."""
        if self.world.options.nat != "nft":
            match = ["-d", address, "-p", "tcp", "--dport", str(port)]
            self._iptables("filter", "-I", "FORWARD", *match, "-j", "ACCEPT")
            return
        rule = f"{self._ip} daddr {address} tcp dport {port} accept"
        self._nft(f"insert rule {self._ip} lab_filter forward {rule}")

    def forwards(self, *bridges: str) -> None:
        """Forward what bridges begin, and its answers, and drop everything else, as Docker does."""
        if self.world.options.nat != "nft":
            self._iptables("filter", "-P", "FORWARD", "DROP")
            state = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
            for bridge in bridges:
                self._iptables("filter", "-A", "FORWARD", "-o", bridge, *state, "-j", "ACCEPT")
                self._iptables("filter", "-A", "FORWARD", "-i", bridge, "-j", "ACCEPT")
            return
        chain = f"{self._ip} lab_filter forward"
        self._nft(
            f"add table {self._ip} lab_filter",
            f"add chain {chain} {{ type filter hook forward priority 0; policy drop; }}",
            *(
                f"add rule {chain} {rule} accept"
                for bridge in bridges
                for rule in (
                    f'oifname "{bridge}" ct state established,related',
                    f'iifname "{bridge}"',
                )
            ),
        )

    def keeps_sizes_secret(self, *, again: bool = False) -> None:
        """Drop what this host says to senders of packets that are too big; ``again``: accept it."""
        if self.world.options.nat != "nft":
            kind = {
                "ip": ["icmp", "--icmp-type", "fragmentation-needed"],
                "ip6": ["ipv6-icmp", "--icmpv6-type", "packet-too-big"],
            }[self._ip]
            self._iptables(
                "filter", "-I", "OUTPUT", "-p", *kind, "-j", "ACCEPT" if again else "DROP"
            )
            return
        kinds = {"ip": "icmp type destination-unreachable", "ip6": "icmpv6 type packet-too-big"}
        chain = f"{self._ip} lab_filter output"
        self._nft(
            f"add table {self._ip} lab_filter",
            f"add chain {chain} {{ type filter hook output priority 0; policy accept; }}",
            f"insert rule {chain} {kinds[self._ip]} counter {'accept' if again else 'drop'}",
        )

    def refuses_published(self, *, healthy: bool) -> None:
        """Refuse what DNAT sends on, as a strict firewalld does; ``healthy``: let it by."""
        if self.world.options.nat != "nft":
            match = ["-m", "conntrack", "--ctstate"]
            self._iptables("filter", "-A", "FORWARD", *match, "ESTABLISHED,RELATED", "-j", "ACCEPT")
            to = "ACCEPT" if healthy else "FWD_DNAT"
            if not healthy:
                self._iptables("filter", "-N", to)
                self._iptables("filter", "-A", to, "-j", "REJECT")
            self._iptables("filter", "-A", "FORWARD", *match, "DNAT", "-j", to)
            return
        table, to = "inet firewalld", "accept" if healthy else "jump filter_FORWARD_dnat"
        self._nft(
            f"add table {table}",
            f"add chain {table} filter_FORWARD_dnat",
            f"add chain {table} filter_FORWARD"
            " { type filter hook forward priority 10; policy accept; }",
            *(
                f"add rule {table} filter_FORWARD {rule}"
                for rule in ("ct state { established, related } accept", f"ct status dnat {to}")
            ),
            f"add rule {table} filter_FORWARD_dnat reject with icmpx admin-prohibited",
        )

    def admits(self, port: int) -> None:
        """Let UDP that was sent to a published port by all the same, as a forward port does."""
        if self.world.options.nat != "nft":
            match = ["-p", "udp", "-m", "conntrack", "--ctorigdstport", str(port)]
            self._iptables("filter", "-I", "FWD_DNAT", *match, "-j", "ACCEPT")
            return
        rule = f"meta l4proto udp ct original proto-dst {port} accept"
        self._nft(f"insert rule inet firewalld filter_FORWARD_dnat {rule}")

    def notrack(self, port: int, address: str = "") -> None:
        """Stop tracking UDP to ``port`` and from it: of ``address``, or wherever it goes.

        Without an address it is the careless rule: NAT could match the same traffic.
        """
        if self.world.options.nat != "nft":
            for match in self._notrack_matches(port, address):
                self._iptables("raw", "-A", *match, "-j", "CT", "--notrack")
            return
        lines = [f"add table {self._ip} lab_raw"]
        for chain, side, end in (("prerouting", "dport", "daddr"), ("output", "sport", "saddr")):
            scope = f"{self._ip} {end} {address} " if address else ""
            lines += [
                f"add chain {self._ip} lab_raw {chain}"
                f" {{ type filter hook {chain} priority -300; policy accept; }}",
                f"add rule {self._ip} lab_raw {chain} {scope}udp {side} {port} counter notrack",
            ]
        self._nft(*lines)

    def track_again(self, port: int) -> None:
        """Take the careless rule away, as its owner would."""
        if self.world.options.nat != "nft":
            for match in self._notrack_matches(port, ""):
                self._iptables("raw", "-D", *match, "-j", "CT", "--notrack")
            return
        self._nft(f"delete table {self._ip} lab_raw")

    @staticmethod
    def _notrack_matches(port: int, address: str) -> tuple[list[str], ...]:
        """Return chain and matches of the rules for what comes to ``port`` and what leaves it."""
        to, from_ = (["-d", address], ["-s", address]) if address else ([], [])
        return (
            ["PREROUTING", *to, "-p", "udp", "--dport", str(port)],
            ["OUTPUT", *from_, "-p", "udp", "--sport", str(port)],
        )
