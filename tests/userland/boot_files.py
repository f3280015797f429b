"""The boot files of our fixes, judged and carried out by the programs that read them at boot.

There is no manager in a userland, so a unit's commands are run here one by one, as
systemd.service(5) says: a leading ``-`` overlooks a failure.
"""

from __future__ import annotations

import json

from userland_world import Userland

KEY = "net.netfilter.nf_conntrack_tcp_be_liberal"


def _units(world: Userland) -> list[str]:
    folder = world.root / "etc/systemd/system"
    return sorted(str(path).partition("/root/")[2] for path in folder.glob("remedy-restore@*"))


def _data(world: Userland) -> list[str]:
    folder = world.root / "etc/remedy/boot"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def checked(world: Userland) -> None:
    """Let nft, iptables-restore and systemd judge the files and change nothing."""
    for name in _data(world):
        path = f"/etc/remedy/boot/{name}"
        if name.endswith(".json"):
            world.sh("nft", "-c", "-j", "-f", path)
        else:
            program = {"ipv4": world.options.nat, "ipv6": world.options.nat.replace("ip", "ip6", 1)}
            world.sh(f"{program[name.rpartition('.')[2]]}-restore", "--test", "--noflush", path)
    units = [f"/{unit}" for unit in _units(world)]
    if units:
        said = world.sh("systemd-analyze", "verify", *units, code=None)
        assert "remedy" not in said, said


def boot(world: Userland) -> None:
    """Take away what a reboot takes away, and do what a boot does; then restart the units."""
    for name in _data(world):
        _forget(world, name)
    world.sysctl("host", KEY, "0")
    # The prefix keeps it from keys that are not of this namespace.
    world.sh("/lib/systemd/systemd-sysctl", "--prefix=/net/netfilter")
    for unit in 2 * _units(world):
        start(world, unit)


def start(world: Userland, unit: str) -> None:
    """Run the commands of a unit in their order."""
    for line in (world.root / unit).read_text().splitlines():
        name, _, command = line.partition("=")
        if name in ("ExecStartPre", "ExecStart"):
            world.sh(*command.lstrip("-").split(), code=None if command[0] == "-" else 0)


def _forget(world: Userland, name: str) -> None:
    """Remove our table, or our chain and its jumps, with the userland's own tool."""
    text = (world.root / "etc/remedy/boot" / name).read_text()
    if name.endswith(".json"):
        (table,) = (c["delete"]["table"] for c in json.loads(text)["nftables"] if "delete" in c)
        world.sh("nft", "delete", "table", table["family"], table["name"])
        return
    lines = text.splitlines()
    program = world.options.nat.replace("ip", "ip6" if name.endswith(".ipv6") else "ip", 1)
    table = ["-t", next(line[1:] for line in lines if line.startswith("*"))]
    chain = next(line[1:].split()[0] for line in lines if line.startswith(":"))
    for line in lines:
        if line.startswith("-I "):
            world.sh(program, *table, "-D", *line.split()[1:])
    world.sh(program, *table, "-F", chain)
    world.sh(program, *table, "-X", chain)
