"""A world in which our older fix does harm, and the command line that works in it.

::

    client  10.0.1.2 --- 10.0.1.1  host  10.0.2.1 --- 10.0.2.2  server
       10.0.3.2 ------------------------------------ 10.0.3.1

The host masquerades for a network of containers that is not there, so that it is exposed to
tcp-invalid-reset. Whichever direction of the traffic takes the cable below is not seen by it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked_cli
from beside import beside
from older_form import be_older
from run_in import RunIn

from remedies.namespaces import netns as namespaces

NAT = """
table inet theirs {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 172.17.0.0/16 oifname "eth9" masquerade
        ip6 saddr fd17::/64 oifname "eth9" masquerade
    }
}
"""
LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
POLICY = """\
apiVersion: remedy/v1
name: one-fix
extends: default
rules:
  tcp-invalid-reset: {mode: fix, from: exposed, fixes: [FIX], accept_harm: [FIX]}
"""


class Cross:
    """Client, host and server, each joined to the other two."""

    def __init__(self, netns: Callable[..., str], run_in: RunIn, folder: Path, family: int) -> None:
        self.client, self.host, self.server = netns("c"), netns("h"), netns("s")
        self.family = socket.AF_INET6 if family == 6 else socket.AF_INET
        self._run, self._folder = run_in, folder
        for ns in (self.client, self.host, self.server):
            # A forwarding host solicits its neighbours from an address that must not be tentative.
            run_in(ns, ["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"])
        self.cable(self.client, "ch", self.host, "hc", 1)
        self.cable(self.host, "hs", self.server, "sh", 2)
        self.cable(self.server, "sc", self.client, "cs", 3)
        for ns, links in ((self.client, ("ch", "cs")), (self.server, ("sh", "sc"))):
            for link in ("all", *links):
                run_in(ns, ["sysctl", "-qw", f"net.ipv4.conf.{link}.rp_filter=0"])
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            run_in(self.host, ["sysctl", "-qw", f"{key}=1"])
        run_in(self.host, ["nft", "-f", "-"], stdin=NAT)
        self.route(self.client, 2, self.at(1, 1))
        self.route(self.server, 1, self.at(2, 1))

    def at(self, net: int, host: int) -> str:
        """Return an address of the world's family."""
        return f"fd00:{net}::{host}" if self.family == socket.AF_INET6 else f"10.0.{net}.{host}"

    def cable(self, one: str, link: str, other: str, end: str, net: int) -> None:
        """Join two namespaces; of network 1 and 2 the host is 1, of 3 the server is."""
        self._run(one, ["ip", "link", "add", link, "type", "veth",
                        "peer", "name", end, "netns", other])  # fmt: skip
        size = 64 if self.family == socket.AF_INET6 else 24
        for ns, name in ((one, link), (other, end)):
            first = ns == self.host or (net == 3 and ns == self.server)
            where = f"{self.at(net, 1 if first else 2)}/{size}"
            nodad = ["nodad"] if self.family == socket.AF_INET6 else []
            self._run(ns, ["ip", "addr", "add", where, "dev", name, *nodad])
            self._run(ns, ["ip", "link", "set", name, "up"])

    def route(self, ns: str, net: int, by: str) -> None:
        """Let a namespace reach a network by a neighbour."""
        v6 = self.family == socket.AF_INET6
        to = f"fd00:{net}::/64" if v6 else f"10.0.{net}.0/24"
        self._run(ns, ["ip", *(["-6"] if v6 else []), "route", "replace", to, "via", by])

    def only_requests(self) -> None:
        """Let the server's answers pass the host by."""
        self.route(self.server, 1, self.at(3, 2))

    def only_answers(self) -> None:
        """Let the client's requests pass the host by."""
        self.route(self.client, 2, self.at(3, 1))

    def run(self, ns: str, *argv: str, stdin: str | None = None) -> str:
        """Run a program in a namespace and return what it printed."""
        return self._run(ns, argv, stdin=stdin).stdout

    def remedy(self, *words: str, code: int | None = 0, older: bool = True) -> dict[str, Any]:
        """Run a command line on the host and return its JSON; ``older``: the older fix."""
        fix = "invalid-drop" if older else "tcp-be-liberal"
        policy = self._folder / f"{fix}.yaml"
        policy.write_text(POLICY.replace("FIX", fix))
        done = forked_cli.run(
            "--netns", self.host, "--state-dir", str(self._folder / "state"), "--policy",
            str(policy), "--json", *words,
            env=os.environ, prepare=be_older if older else forked_cli.nothing,
        )  # fmt: skip
        assert code in (None, done.returncode), (words, done.returncode, done.stdout, done.stderr)
        plain: dict[str, Any] = json.loads(done.stdout)
        return plain

    def in_force(self) -> bool:
        """Tell whether a fix stands on the host."""
        rules = self.run(self.host, "nft", "list", "ruleset")
        liberal = self.run(self.host, "sysctl", "-n", LIBERAL).strip() != "0"
        return liberal or "remedy_invalid_drop" in rules or "REMEDY-INVALID" in rules

    def meanwhile(
        self, work: Callable[[threading.Event], None]
    ) -> contextlib.AbstractContextManager[None]:
        """Do ``work`` beside the block: it begins once the fix stands, and ends with the block."""

        def run(stop: threading.Event) -> None:
            while not self.in_force():
                if stop.wait(0.05):
                    return
            work(stop)

        return beside(run)

    def open(self, ns: str, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """Return a socket of a namespace."""
        with namespaces.inside(ns):
            return socket.socket(self.family, kind, protocol)

    @contextlib.contextmanager
    def listening(self, ns: str, port: int) -> Iterator[socket.socket]:
        """Listen on every address of a namespace."""
        with self.open(ns) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", port))
            listener.listen(64)
            listener.settimeout(5)
            yield listener
