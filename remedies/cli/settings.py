"""Where a setting comes from: the flag, then the environment, then the file, then the default."""

from __future__ import annotations

import argparse
import os

from remedies.cli.parser import TYPE_CHECKING, duration
from remedies.errors import ConfigError

if TYPE_CHECKING:
    from typing import Any

FILE = "/etc/remedy/remedy.conf"
"""INI, which every host can read: ``[remedy]``, then ``KEY = VALUE`` on a line each."""

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
FROM_ENVIRONMENT = ("policy", "netns", "state_dir", "json", "plain", "lock_timeout")
"""Nothing that approves or widens an action."""
_FROM_FILE = (*FROM_ENVIRONMENT, "persist")
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
        if name in FROM_ENVIRONMENT and os.environ.get(variable):
            value = _typed(name, os.environ[variable], f"environment: {variable}")
            source = f"environment: {variable}"
        setattr(args, name, value)
        if name == "policy":
            args.policy_source = source


def _typed(name: str, value: str, where: str) -> object:
    """Turn a value into the type of its option; raise ConfigError that says where it stands.

    The file names several policies on a line each.
    """
    try:
        if name == "policy":
            named = [line.strip() for line in value.split("\n") if line.strip()]
            if not named:
                raise ValueError
            return named
        if name == "lock_timeout":
            return duration(value)
        if name in ("json", "plain", "persist"):
            known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
            return known[value.lower()]
    except (ValueError, KeyError, argparse.ArgumentTypeError):
        raise ConfigError(
            f"{where}: {value[:80]!r} is not a valid {name.replace('_', '-')}"
        ) from None
    return value


def parsed(text: str) -> dict[str, str]:
    """Return the keys of the file, in small letters, and their values. Raises ConfigError."""
    import configparser  # only where the file exists

    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    hint = "write [remedy], then KEY = VALUE on a line each"
    try:
        parser.read_string(text, FILE)
    except configparser.Error as error:
        raise ConfigError(f"{FILE}: not INI: {' '.join(str(error).split())}", hint) from None
    if parser.defaults() or parser.sections() not in ([], ["remedy"]):
        raise ConfigError(f"{FILE}: expected one section, [remedy]", hint)
    return dict(parser["remedy"]) if parser.sections() else {}


def read() -> dict[str, object]:
    """Return the settings of the configuration file; none where there is no file."""
    try:
        with open(FILE, encoding="utf-8") as file:
            if os.geteuid() == 0:
                from remedies.policy.sources import trusted  # only where the file exists

                trusted(FILE, FILE, os.fstat(file.fileno()), "configuration")
            text = file.read(65536)
    except FileNotFoundError:
        _refuse_older()
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{FILE}: cannot be read: {error}") from None
    settings = {}
    for key, value in parsed(text).items():
        name = key.replace("-", "_")
        if name not in _FROM_FILE:
            known = ", ".join(n.replace("_", "-") for n in _FROM_FILE)
            raise ConfigError(f"{FILE}: unknown key {key[:80]!r}", f"known: {known}")
        settings[name] = _typed(name, value, f"{FILE}: {key}")
    return settings


def _refuse_older() -> None:
    """Raise ConfigError where the settings stand in the YAML of older versions alone."""
    older = os.path.splitext(FILE)[0] + ".yaml"
    if os.path.lexists(older):
        raise ConfigError(
            f"{older}: settings are read from {FILE} now",
            f"write them there ([remedy], then KEY = VALUE on a line each), and remove {older}",
        )
