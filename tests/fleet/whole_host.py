"""A fleet host that is a whole Debian: systemd is its process 1, sshd a service of it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from fleet_host import LightHost, run
from machine import Machine

_CLEAN = """
systemctl kill --quiet --signal=KILL 'remedy-guard-*.scope' 2>/dev/null
rm -rf /etc/remedy
find /var/lib/remedy -mindepth 1 -maxdepth 1 ! -name bundle -exec rm -r {} +
find /etc -name '*remedy*' -delete
sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0
nft flush ruleset
true
"""


@dataclass(kw_only=True)
class WholeHost(LightHost):
    """One test's use of a booted machine."""

    machine: Machine

    def begin(self, public: Path) -> str:
        """Let the controller's key in as root; return the host's own key."""
        self.machine.run("mkdir", "-p", "-m", "700", "/root/.ssh")
        self.machine.write("/root/.ssh/authorized_keys", public.read_text())
        self._linger("root")
        return self.machine.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub")

    def on(self, *argv: str, stdin: str | None = None) -> str:
        """Run a command on the host."""
        return self.machine.run(*argv, stdin=stdin)

    def guards(self) -> str:
        """Return the guards' units, as systemd lists them; empty where there is none."""
        return self.on("systemctl", "list-units", "--no-legend", "--plain", "remedy-*")

    def user(self, name: str, password: str) -> None:
        """Let somebody log in with the controller's key, who has a password.

        The user stays for the tests to come: who has left cannot come back (see _linger).
        """
        if name not in self.on("getent", "passwd"):
            self.on("useradd", "--create-home", "--gid", "users", "--shell", "/bin/sh", name)
        self.on("chpasswd", stdin=f"{name}:{password}\n")
        home = f"/home/{name}/.ssh"
        self.on("install", "-d", "-o", name, "-m", "700", home)
        self.on("install", "-o", name, "/root/.ssh/authorized_keys", home)
        self._linger(name)

    def _linger(self, name: str) -> None:
        """Keep a user's manager: cgroup v1 never tells that one has ended, and logins wait."""
        self.on("loginctl", "enable-linger", name)

    def stop(self) -> None:
        """Leave the machine as it was booted, for the next test, but for the single-file tool."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)  # an agent's nft monitor, too
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.machine.run("sh", "-c", _CLEAN)
        self.inside("conntrack", "-F")
        run("ip", "-n", self.netns, "link", "del", "eth0")
