"""Writes a compiled policy as YAML that says where each value came from."""

from __future__ import annotations

from typing import Any

import yaml

from remedies import site
from remedies.model import Policy, Rule
from remedies.policy.compile import BUILT_IN


def to_yaml(policy: Policy) -> str:
    """Return the policy as one policy file without ``extends``; each origin is a comment.

    Compiled again, it says the same.
    """
    lines = ["---", "apiVersion: remedy/v1", f"name: {policy.names[-1]}"]
    lines.append(_line("", "backend", policy.backend, policy.origins.get("backend")))
    lines.append(_line("", "persist", policy.persist, policy.origins.get("persist")))
    if policy.unattended is not None:
        values = {**vars(policy.unattended), "conditions": list(policy.unattended.conditions)}
        lines.append(_line("", "unattended", values, policy.origins.get("unattended")))
    ours = {name: rule for name, rule in policy.rules.items() if not site.is_site(name)}
    if ours:
        lines.append("rules:")
    for condition, rule in ours.items():
        lines.append(f"  {condition}:")
        for key, value in _rule(rule).items():
            origin = policy.origins.get(f"rules.{condition}.{key}", BUILT_IN)
            lines.append(_line("    ", key, value, origin))
    standing = [{"fix": s.fix, "params": s.params, "reason": s.reason} for s in policy.require]
    waivers = [dict(vars(waiver)) for waiver in policy.waivers]
    lines += _stated(policy)
    lines += _entries(policy, "require", standing)
    lines += _entries(policy, "waivers", waivers)
    return "\n".join(lines) + "\n"


def _rule(rule: Rule) -> dict[str, Any]:
    """Return a rule's keys as a file has them."""
    fixes = list(rule.fixes)
    values: dict[str, Any] = {
        "mode": rule.mode,
        "from": rule.from_,
        "fixes": {"all": fixes} if rule.every else fixes,
    }
    if rule.params:
        values["params"] = rule.params
    if rule.accept_harm:
        values["accept_harm"] = list(rule.accept_harm)
    return values


def _stated(policy: Policy) -> list[str]:
    """Return the conditions that the policy states itself."""
    stated = {name: rule for name, rule in policy.rules.items() if site.is_site(name)}
    lines = ["site:"] if stated else []
    for name, rule in stated.items():
        origin = policy.origins.get(f"rules.{name}.mode", BUILT_IN)
        lines += _entry(origin, {"id": name, "mode": rule.mode, **rule.params})
    return lines


def _entries(policy: Policy, name: str, entries: list[dict[str, Any]]) -> list[str]:
    lines = [f"{name}:"] if entries else []
    for index, entry in enumerate(entries):
        lines += _entry(policy.origins.get(f"{name}.{index}", BUILT_IN), entry)
    return lines


def _entry(origin: str, entry: dict[str, Any]) -> list[str]:
    """Return one entry of a list, below a comment that says where it is from."""
    lines = [f"  # {origin}"]
    for position, (key, value) in enumerate(entry.items()):
        lines.append(_line("  - " if position == 0 else "    ", key, value, None))
    return lines


def _line(indent: str, key: str, value: object, origin: str | None) -> str:
    """Return one ``key: value  # origin`` line; any value fits on one line in flow style."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=False)
    text = text.removesuffix("...\n").strip()
    return f"{indent}{key}: {text}" + (f"  # {origin}" if origin else "")
