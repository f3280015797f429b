"""Whether systemd-networkd manages a link, and whether it leaves others' routing rules alone.

Its settings are read as systemd reads them (systemd-system.conf(5), networkd.conf(5)): one main
file, that of the first folder, then the drop-ins in the order of their names; of two with one name
that of the first folder counts. The last line wins.
"""

from __future__ import annotations

import os

from remedies.boot import drop_ins
from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.namespaces import machine
from remedies.values import dataclass

FOLDERS = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
RUNS = "/run/systemd/units/invocation:systemd-networkd.service"
"""A link to nowhere that is there while the unit runs, however control groups are mounted
(unit_export_invocation_id() in systemd's src/core/unit.c; systemd 236)."""
LINKS = "/run/systemd/netif/links"
"""A file for each link, as sd_network_link_get_network_file() of libsystemd reads it."""
ROOT = machine.ROOT
"""What stands before every path. Tests point it at a tree of their own."""
RULES, ROUTES = "ManageForeignRoutingPolicyRules", "ManageForeignRoutes"
_NO = ("no", "n", "false", "f", "off", "0")
"""parse_boolean() of systemd's src/basic/parse-util.c."""
_LIMIT = 1 << 20


@dataclass(frozen=True)
class Networkd:
    """systemd-networkd in the machine's own namespace; of any other it manages nothing."""

    running: bool = False
    network: str = ""
    """The .network file of a link that it manages; empty where it manages none, and so sets nothing
    and removes nothing."""
    takes_rules: bool = True
    """It removes routing rules that it did not add."""
    takes_routes: bool = True
    files: tuple[str, ...] = ()
    """The files that decide the two settings."""


def read(asking: Asking) -> Networkd:
    """Read the fact; raise Unreadable for what this user may not read."""
    if asking.host.netns != "host" or not os.path.lexists(ROOT + RUNS):
        return Networkd()
    said: dict[str, tuple[str, str]] = {}
    for path in _files():
        try:
            with open(ROOT + path, encoding="utf-8", errors="replace") as file:
                text = file.read(_LIMIT)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}", "run as root") from error
        said.update((key, (value, path)) for key, value in settings(text).items())
    return Networkd(
        running=True,
        network=_network(),
        takes_rules=said.get(RULES, ("yes", ""))[0].lower() not in _NO,
        takes_routes=said.get(ROUTES, ("yes", ""))[0].lower() not in _NO,
        files=tuple(dict.fromkeys(path for _, path in said.values())),
    )


def _network() -> str:
    """Return the .network file of the first link that has one; raise Unreadable."""
    try:
        links = sorted(filter(str.isdecimal, os.listdir(ROOT + LINKS)), key=int)
        for link in links:
            with open(f"{ROOT}{LINKS}/{link}", encoding="utf-8", errors="replace") as file:
                for line in file.read(_LIMIT).splitlines():
                    key, _, value = line.partition("=")
                    if key == "NETWORK_FILE" and value:
                        return value
    except FileNotFoundError:  # none yet, or a link that has just gone
        return ""
    except OSError as error:
        raise Unreadable(f"{error.filename}: {error.strerror}", "run as root") from error
    return ""


def settings(text: str) -> dict[str, str]:
    """Return what a file says of the two settings in its section ``[Network]``."""
    found: dict[str, str] = {}
    section = ""
    for line in map(str.strip, text.split("\n")):
        if line.startswith("["):
            section = line
        key, equals, value = line.partition("=")
        if equals and section == "[Network]" and key.strip() in (RULES, ROUTES):
            found[key.strip()] = value.strip()
    return found


def _files() -> tuple[str, ...]:
    """Return the files that are read, in that order; raise Unreadable where that is not known."""
    main = [f"{folder}/networkd.conf" for folder in FOLDERS]
    first = next((path for path in main if os.path.exists(ROOT + path)), None)
    try:
        then = drop_ins.chosen((f"{folder}/networkd.conf.d" for folder in FOLDERS), ROOT)
    except OSError as error:
        raise Unreadable(f"{error.filename}: {error.strerror}", "run as root") from error
    return (*((first,) if first else ()), *then)
