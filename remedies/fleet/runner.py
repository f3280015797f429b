"""Runs the playbooks through ansible-runner, and tells each host's result as it comes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remedies import codec, shipped
from remedies.errors import InputError, RemedyError, UsageError
from remedies.fleet.states import Standing
from remedies.fleet.verbs import UNREACHED
from remedies.printable import clean

_RESULTS = ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped")
_ASKING = ("-k", "-K", "-J", "--ask")

Tell = Callable[[Standing, bool], None]


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
                raise UsageError(f"{word}: nobody can be asked while it runs",
                                 "use a password file, or a vaulted variable")  # fmt: skip

    def words(self) -> list[str]:
        """Return the arguments that every Ansible program takes."""
        return [word for source in self.inventories for word in ("-i", source)]

    def hosts(self) -> list[str]:
        """Return the names of the hosts that are meant, in the inventory's order.

        Raises InputError where there are none, or Ansible cannot read the inventory.
        """
        self.check()
        argv = ["ansible", "all", *self.words(), "--list-hosts", *self.extra]
        argv += ["--limit", self.limit] if self.limit else []
        try:
            listing = subprocess.Popen(
                argv, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise RemedyError("Ansible is not installed", "pip install 'remedies[fleet]'") from None
        with listing:
            _libraries()  # what play() needs, while Ansible reads the inventory
            out, err = listing.communicate()
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
    hosts: Sequence[str],
    variables: Mapping[str, object],
    folder: str,
    tell: Tell,
    *,
    check: bool = False,
) -> None:
    """Run a shipped playbook on these hosts; ``folder`` is a new one, for Ansible's own record.

    ``tell`` gets every host's word as it comes, and whether the host's worker has noted it in the
    run's log already; a host that Ansible says nothing of gets one too.
    Raises RemedyError where ansible-runner is missing or Ansible does not start.
    """
    import shlex

    ansible_runner, settings = _libraries()

    os.makedirs(folder, mode=0o700)
    limit = os.path.join(folder, "hosts")
    with open(limit, "w", encoding="utf-8") as file:
        file.writelines(f"{host}\n" for host in hosts)
    words = [*site.words(), "--limit", f"@{limit}", *site.extra, *(["--check"] if check else [])]
    heard: set[str] = set()

    def handle(event: dict[str, Any]) -> bool:
        if event.get("event") in _RESULTS:
            standing = _standing(event)
            if standing is not None and standing.host not in heard:
                heard.add(standing.host)
                tell(standing, bool((event["event_data"].get("res") or {}).get("noted")))
        return True

    ran = ansible_runner.run(
        private_data_dir=folder,
        playbook=os.path.join(shipped.folder("playbooks"), f"{name}.yml"),
        cmdline=shlex.join(words),
        extravars=dict(variables),
        envvars={**environment(), "ANSIBLE_HOST_KEY_CHECKING": _host_keys(settings)},
        forks=site.forks or None,
        project_dir=os.path.abspath(site.folder),
        quiet=True,
        event_handler=handle,
        suppress_env_files=True,
    )
    silent = [host for host in hosts if host not in heard]
    if not heard and ran.status != "successful":
        raise RemedyError(f"Ansible could not run {name}.yml{_reason(_output(ran), 'ERROR')}")
    for host in silent:
        tell(Standing(host, "unreachable", UNREACHED, "Ansible came to no result for it"), False)


def _libraries() -> tuple[Any, Any]:
    """Return ansible-runner and Ansible's settings. Raises RemedyError where they are missing."""
    import importlib

    try:
        return importlib.import_module("ansible_runner"), importlib.import_module(
            "ansible.config.manager"
        )
    except ImportError:
        raise RemedyError(
            "ansible-runner is not installed", "pip install 'remedies[fleet]'"
        ) from None


def _host_keys(settings: Any) -> str:
    """Return whether Ansible's own settings want host keys checked.

    ansible-runner switches the check off for whoever does not say otherwise.
    """
    return str(bool(settings.ConfigManager().get_config_value("HOST_KEY_CHECKING")))


def _standing(event: dict[str, Any]) -> Standing | None:
    """Return the word about a host that an event holds: the action's own, or Ansible's."""
    data = event.get("event_data") or {}
    host, result = data.get("host"), data.get("res")
    if not isinstance(host, str) or not isinstance(result, dict):
        return None
    if "standing" in result:
        return codec.decode(Standing, result["standing"], f"result of {host}")
    message = clean(" ".join(str(result.get("msg", "no reason given")).split()))
    if event["event"] == "runner_on_unreachable":
        return Standing(host, "unreachable", UNREACHED, message)
    return Standing(host, "needs-human", 70, message)


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
