"""Where a setting comes from: the flag, then the environment, then the file, then the default."""

from __future__ import annotations

import argparse
import os
from typing import Any

from remedies.cli.parser import duration
from remedies.errors import ConfigError

FILE = "/etc/remedy/remedy.yaml"

DEFAULTS: dict[str, Any] = {
    "policy": None,
    "persist": None,
    "netns": None,
    "state_dir": "/var/lib/remedy",
    "backend": None,
    "lock_timeout": 10.0,
    "json": False,
    "plain": False,
    "no_color": False,
    "no_input": False,
    "quiet": False,
    "verbose": 0,
}
_FROM_ENVIRONMENT = ("policy", "netns", "state_dir", "json", "plain", "lock_timeout")
"""Nothing that approves or widens an action."""
_FROM_FILE = (*_FROM_ENVIRONMENT, "persist")
"""What the host's own settings file may say; root writes it."""


def fill(args: argparse.Namespace) -> None:
    """Set every option that the command line left open; ``args.typed`` names the others.

    ``args.policy_source`` says what names the policy; empty where nothing does.
    Raises ConfigError.
    """
    args.typed = frozenset(name for name in DEFAULTS if hasattr(args, name))
    args.policy_source = "--policy" if "policy" in args.typed else ""
    file = read()
    for name, default in DEFAULTS.items():
        if hasattr(args, name):
            continue
        value, source = default, ""
        if name in file:
            value, source = file[name], FILE
        variable = "REMEDY_" + name.upper()
        if name in _FROM_ENVIRONMENT and os.environ.get(variable):
            value = _typed(name, os.environ[variable], f"environment: {variable}")
            source = f"environment: {variable}"
        setattr(args, name, value)
        if name == "policy":
            args.policy_source = source


def _typed(name: str, value: object, where: str) -> object:
    """Turn a value into the type of its option; raise ConfigError that says where it stands."""
    try:
        if name == "policy":
            items = value if isinstance(value, list) else [value]
            if not all(isinstance(item, str) for item in items):
                raise ValueError
            return items
        if not isinstance(value, (str, int, float)):
            raise ValueError
        if name == "lock_timeout":
            return duration(str(value))
        if name in ("json", "plain", "persist"):
            known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
            return known[str(value).lower()]
        if not isinstance(value, str):
            raise ValueError
    except (ValueError, KeyError, argparse.ArgumentTypeError):
        raise ConfigError(f"{where}: {_shown(value)} is no {name.replace('_', '-')}") from None
    return value


def _shown(value: object) -> str:
    """Return a value for a message; of YAML that refers to itself the text would not end."""
    return repr(value[:80]) if isinstance(value, str) else f"a {type(value).__name__}"


def parsed(text: str) -> object:
    """Return what the file says. Raises ConfigError."""
    try:
        import yaml  # only where the file exists
    except ImportError:
        from remedies.cli import flat_yaml

        return flat_yaml.read(text, FILE)
    try:
        return yaml.safe_load(text)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # 2026-99-99; brackets by thousands
        line = " ".join(str(error).split())
        raise ConfigError(f"{FILE}: not YAML: {line}") from None


def read() -> dict[str, object]:
    """Return the settings of the configuration file; none where there is no file."""
    try:
        with open(FILE, encoding="utf-8") as file:
            if os.geteuid() == 0:
                from remedies.policy.sources import trusted  # only where the file exists

                trusted(FILE, FILE, os.fstat(file.fileno()), "configuration")
            text = file.read(65536)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{FILE}: cannot be read: {error}") from None
    plain = parsed(text)
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        raise ConfigError(f"{FILE}: expected keys and values")
    settings = {}
    for key, value in plain.items():
        name = key.replace("-", "_") if isinstance(key, str) else ""
        if name not in _FROM_FILE:
            known = ", ".join(n.replace("_", "-") for n in _FROM_FILE)
            raise ConfigError(f"{FILE}: unknown key {_shown(key)}", f"known: {known}")
        settings[name] = _typed(name, value, f"{FILE}: {key}")
    return settings
