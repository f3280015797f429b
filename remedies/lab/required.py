"""Policy files of a world: one that requires ``notrack``, one that fixes what default advises."""

from __future__ import annotations

from remedies.lab.world import World


def notrack(world: World, name: str, address: str, port: int) -> str:
    """Require it for one UDP service, and do nothing about TCP; return the file's path."""
    return _policy(
        world,
        name,
        "rules:",
        "  tcp-invalid-reset: {mode: off}",
        "require:",
        "  - fix: notrack",
        f'    params: {{protocol: udp, ports: [{port}], addresses: ["{address}"]}}',
        '    reason: "SIP without NAT on this path"',
    )


def fixing(world: World, condition: str, fix: str, *, since: str = "proven") -> str:
    """Let a fix be applied from a verdict on its condition on; return the file's path."""
    rule = f"{{mode: fix, from: {since}, fixes: [{fix}]}}"
    return _policy(world, "site", "rules:", f"  {condition}: {rule}")


def _policy(world: World, name: str, *lines: str) -> str:
    path = f"{world.folder}/{name}.yaml"
    head = ("apiVersion: remedy/v1", f"name: {name}", "extends: default")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join((*head, *lines, "")))
    return path
