"""Runs the playbooks through ansible-runner; :mod:`hearing` understands what Ansible says."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from remedies import shipped
from remedies.errors import InputError, RemedyError, UsageError
from remedies.fleet.events import Hearing
from remedies.fleet.host_state import HostStanding
from remedies.fleet.stopping import stopping
from remedies.libraries import how_to_add
from remedies.outcomes import UNREACHED
from remedies.printable import clean
from remedies.transaction.consent import Consent, demand

_HOST_KEYS = "ANSIBLE_HOST_KEY_CHECKING"
"""Switched off by ansible-runner for whoever does not set it; Ansible's own settings decide."""
_ASKING = ("-k", "-K", "-J", "--ask")


@dataclass(frozen=True)
class Site:
    """The inventories, and how Ansible goes through them."""

    inventories: tuple[str, ...]
    limit: str = ""
    forks: int = 0
    """Hosts at a time; 0: what Ansible's own settings say."""
    extra: tuple[str, ...] = ()
    """Further arguments for ansible-playbook."""
    folder: str = "."
    """Where Ansible runs: whose ansible.cfg counts, and what relative paths are beside."""

    def check(self) -> None:
        """Raise InputError or UsageError for what Ansible would only warn of, or wait for."""
        for source in self.inventories:
            if "," not in source and not os.path.exists(source):
                raise InputError(f"{source}: no such inventory", "check the path after -i")
        for word in self.extra:
            if word.startswith(_ASKING):
                raise UsageError(f"{word}: it asks a question, and there is no terminal to "
                                 f"answer on",
                                 "use a password file, or a vaulted variable")  # fmt: skip

    def words(self) -> list[str]:
        """Return the arguments that every Ansible program takes."""
        return [word for source in self.inventories for word in ("-i", source)]

    def hosts(self) -> list[str]:
        """Return the names of the hosts that are meant, in the inventory's order.

        Raises InputError where there are none, or Ansible cannot read the inventory.
        """
        argv = ["ansible", "all", *self.words(), "--list-hosts", *self.extra]
        argv += ["--limit", self.limit] if self.limit else []
        try:
            listing = subprocess.Popen(
                argv, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise RemedyError("Ansible is not installed", how_to_add("ansible")) from None
        with listing:
            try:
                _interface()  # what play() needs, while Ansible reads the inventory
                out, err = listing.communicate()
            except BaseException:  # a signal: leaving this waits for it
                listing.kill()
                raise
        found = re.search(r"^ *hosts \(\d+\):\n((?: +.*\n?)*)", out, re.MULTILINE)
        if listing.returncode == 0 and found and found[1].strip():
            return [line.strip() for line in found[1].splitlines()]
        where = ", ".join(self.inventories)
        if self.limit and "--limit leaves us" in err:
            raise InputError(f"{where}: no host matches {self.limit!r}", "check --limit")
        if listing.returncode == 0 or "hosts list is empty" in err:
            reason = _reason(err, "Unable to parse")
            raise InputError(f"{where}: no hosts in it{reason}", "check the inventory")
        raise InputError(f"{where}: Ansible cannot read it{_reason(err, 'ERROR')}")


def environment() -> dict[str, str]:
    """Return the environment of Ansible's programs: those installed beside us are found first."""
    beside = os.path.dirname(os.path.abspath(sys.executable))
    path = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}


def play(
    name: str,
    site: Site,
    hosts: Optional[Sequence[str]],
    variables: Mapping[str, object],
    folder: str,
    hearing: Hearing,
    agreed: Optional[Consent],
) -> list[str]:
    """Run a shipped playbook; return the names of its hosts, in the order of the inventory.

    ``hosts``: these alone; None: those that the site means, which Ansible then looks up once, with
    the play. ``folder`` is a new one, for Ansible's own record. ``hearing`` gets every host's word
    as it comes; a host that Ansible says nothing of gets one too. Without a consent (``agreed``)
    Ansible is in its check mode, in which no action writes.
    Raises InputError where no host is meant, RemedyError where ansible-runner is missing or Ansible
    does not start. A signal ends Ansible and does then what it does anywhere.
    """
    if agreed is not None:
        demand(agreed)
    interface = _interface()
    os.makedirs(folder, mode=0o700)
    limit = site.limit
    if hosts is not None:
        hearing.begin(len(hosts))
        if not hosts:
            return []
        names = os.path.join(folder, "hosts")
        with open(names, "w", encoding="utf-8") as file:
            file.writelines(f"{host}\n" for host in hosts)
        limit = f"@{names}"
    words = [*site.words(), *(["--limit", limit] if limit else []), *site.extra]
    with stopping():
        ran = interface.init_runner(
            private_data_dir=folder,
            playbook=os.path.join(shipped.folder("playbooks"), f"{name}.yml"),
            cmdline=shlex.join(words if agreed is not None else [*words, "--check"]),
            extravars=dict(variables),
            envvars=environment(),
            forks=site.forks or None,
            project_dir=os.path.abspath(site.folder),
            quiet=True,
            event_handler=hearing.event,
            cancel_callback=_go_on,
            suppress_env_files=True,
        )
        if _HOST_KEYS not in os.environ:
            del ran.config.env[_HOST_KEYS]
        ran.run()
    if hosts is None:
        hosts = hearing.hosts() or site.hosts()
    if not hearing.heard and ran.status != "successful":
        raise RemedyError(f"Ansible could not run {name}.yml{_reason(_output(ran), 'ERROR')}")
    hearing.begin(len(hosts))
    for host in hosts:
        if host not in hearing.heard:
            hearing.word(
                HostStanding(host, "unreachable", UNREACHED, "Ansible gave no result for this host")
            )
    return list(hosts)


def _go_on() -> bool:
    """Answer ansible-runner, which takes over our signals unless it can ask whether to stop."""
    return False


def _interface() -> Any:
    """Return ansible-runner's interface. Raises RemedyError where it is not installed."""
    try:
        return importlib.import_module("ansible_runner.interface")
    except ImportError:
        raise RemedyError("ansible-runner is not installed", how_to_add("ansible_runner")) from None


def _output(ran: Any) -> str:
    """Return what Ansible printed."""
    parts = []
    for stream in ("stdout", "stderr"):
        try:
            with getattr(ran, stream) as file:
                parts.append(file.read())
        except (OSError, AttributeError, ValueError):
            continue
        except Exception as error:  # ansible-runner's own, for a stream that was never opened
            if type(error).__module__.startswith("ansible_runner"):
                continue
            raise
    return "\n".join(parts)


def _reason(text: str, word: str) -> str:
    """Return ``: `` and Ansible's first line with this word; nothing where there is none."""
    for line in text.splitlines():
        if word in line:
            said = re.sub(r"^\s*\[?(ERROR|WARNING)\]?!?:?\s*", "", line)
            return f": {clean(' '.join(said.split()))}"
    return ""
