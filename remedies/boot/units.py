"""The boot files that bring rules of ours back: data for nft or iptables-restore, and a unit.

One set of files for each fix, so that rolling one back never takes away what another needs:

``/etc/remedy/boot/FIX.json``
    what ``nft -j -f`` reads to replace our table, or
``/etc/remedy/boot/FIX.ipv4`` and ``FIX.ipv6``
    our chain and the jumps to it, for ``iptables-restore --noflush``;
``/etc/systemd/system/remedy-restore@FIX.service``
    loads them without Python, once whatever empties rulesets at boot has run;
``/etc/systemd/system/multi-user.target.d/remedy-FIX.conf``
    makes the boot want the unit: a plain file, where enabling would be a link.

A restore adds a jump to those that are there, so the unit removes ours first, each with a leading
``-``: there may be none (systemd.service(5)). The unit follows its firewalls in being restarted
(``PartOf=``) and reloaded (``ReloadPropagatedFrom=``): what they empty comes back; firewalld alone
it must not follow (:data:`FOLLOWED`). Where its data is gone it is passed over
(``ConditionPathExists=``): systemd still knows it. It has no ``Before=``:
a firewall that waits for the network or for Docker would close a circle, and systemd breaks a
circle by leaving out one of its units. Docker is not waited for: its rules are in other chains,
and containers that it restarts must find the rules there.
"""

from __future__ import annotations

from collections.abc import Iterable

from remedies.model import Wanted
from remedies.rules import kinds

DATA = "/etc/remedy/boot"
UNITS = "/etc/systemd/system"
WANTS = "/etc/systemd/system/multi-user.target.d"

FIREWALLS = (
    "nftables.service",
    "firewalld.service",
    "ufw.service",
    "netfilter-persistent.service",
    "iptables.service",
    "ip6tables.service",
)
"""Units that empty or replace rulesets when they start."""
FOLLOWED = tuple(name for name in FIREWALLS if name != "firewalld.service")
"""firewalld.service has the others in its ``Conflicts=``: its restart stops them, so a unit that
followed both would have to be stopped and started in one, which systemd refuses: nobody could
restart firewalld any more. It leaves foreign nftables tables alone; of iptables it empties all."""
_FIREWALLD_IS_DONE = "ExecStartPre=-/usr/bin/firewall-cmd --state --quiet"
"""Waits where firewalld is starting: systemd takes it for started once it has its bus name, and it
empties the iptables tables after that. Anywhere else this fails at once."""

_WHOSE = "# Written by remedy (fix {fix}); 'remedy rollback' takes it away.\n"


def unit(fix: str) -> str:
    """Return the name of the unit that restores what a fix has in force."""
    return f"remedy-restore@{fix}.service"


def units_among(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the restore units whose files are among these addresses."""
    head = f"file:{UNITS}/"
    named = (address[len(head) :] for address in addresses if address.startswith(head))
    return tuple(name for name in named if name.endswith(".service"))


def boot_paths(fix: str, address: str) -> tuple[str, ...]:
    """Return the addresses of the files that bring one table or chain back; none for others."""
    kind, _ = kinds.of(address)
    if not kind.boot_data:
        return ()
    paths = (f"{DATA}/{fix}.{kind.boot_data}", f"{UNITS}/{unit(fix)}", f"{WANTS}/remedy-{fix}.conf")
    return tuple(f"file:{path}" for path in paths)


def boot_files(fix: str, wanted: tuple[Wanted, ...]) -> tuple[Wanted, ...]:
    """Return the boot files for the tables and chains among ``wanted``; none where there are none.

    Raises InputError for a state that is not of ours.
    """
    whose = _WHOSE.format(fix=fix)
    data: list[Wanted] = []
    commands: list[str] = []
    waits: list[str] = []
    for resource in wanted:
        kind, path = kinds.of(resource.resource)
        if resource.state is None or not kind.boot_data:
            continue
        name = f"{DATA}/{fix}.{kind.boot_data}"
        load = kind.loading(path, resource.state, name)
        data.append(_file(name, (whose if kind.boot_remarks else "") + load.text))
        if kind.cleared_by_firewalld:
            waits = [_FIREWALLD_IS_DONE]
        commands += [f"ExecStartPre=-{command}" for command in load.clears]
        commands.append(f"ExecStart={load.command}")
    if not data:
        return ()
    commands.sort(key=lambda line: line.startswith("ExecStart="))
    return (
        *data,
        _file(f"{UNITS}/{unit(fix)}", whose + _unit(fix, [*waits, *commands], data)),
        _file(f"{WANTS}/remedy-{fix}.conf", f"{whose}[Unit]\nWants={unit(fix)}\n"),
    )


def _file(path: str, content: str) -> Wanted:
    return Wanted(resource=f"file:{path}", state=content, boot=True)


def _unit(fix: str, commands: list[str], data: list[Wanted]) -> str:
    after, followed = " ".join(FIREWALLS), " ".join(FOLLOWED)
    reloads = [f"ExecReload={line.partition('=')[2]}" for line in commands]
    return "\n".join(
        (
            "[Unit]",
            f"Description=Rules of remedy's fix {fix}",
            f"After={after} systemd-modules-load.service systemd-sysctl.service",
            f"PartOf={followed}",
            f"ReloadPropagatedFrom={followed}",
            *(f"ConditionPathExists={w.resource.partition(':')[2]}" for w in data),
            "",
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            *commands,
            *reloads,
            "",
        )
    )
