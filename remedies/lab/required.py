"""A policy file that requires ``notrack`` for one UDP service of a world's host."""

from __future__ import annotations

from remedies.lab.world import World


def notrack(world: World, name: str, address: str, port: int) -> str:
    """Write the policy, which does nothing about TCP, into the world's folder; return its path."""
    path = f"{world.folder}/{name}.yaml"
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "apiVersion: remedy/v1\n"
            f"name: {name}\n"
            "extends: default\n"
            "rules:\n"
            "  tcp-invalid-reset: {mode: off}\n"
            "require:\n"
            "  - fix: notrack\n"
            f'    params: {{protocol: udp, ports: [{port}], addresses: ["{address}"]}}\n'
            '    reason: "SIP without NAT on this path"\n'
        )
    return path
