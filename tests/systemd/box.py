"""A booted machine with the tool in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nftables
from debian import Root
from machine import Machine

import remedies
from remedies import policy
from remedies.values import replace

REMEDY: Sequence[str] = ("env", "PYTHONPATH=/opt/remedy", "python3", "-B", "-m", "remedies")


class Box:
    """A booted machine with the tool in it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.run, self.write, self.reboot = machine.run, machine.write, machine.reboot

    def remedy(self, *words: str, code: int = 0) -> str:
        """Run a command line in it and check the exit code."""
        return self.run(*REMEDY, "--policy", "/etc/test-policy.json", *words, code=code)

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command line with --json and return what it printed."""
        plain: dict[str, Any] = json.loads(self.remedy(*words, "--json", code=code))
        return plain

    def there(self, path: str) -> bool:
        """Tell whether a file or folder is there."""
        return self.run("sh", "-c", f'test -e "{path}" && echo yes || true') == "yes\n"

    def policy(self, *fixes: str, every: bool = False, **settings: Any) -> None:
        """Write the policy: the default one, but lasting, and with these fixes in this order.

        The first that is not refused is used, or with ``every`` all of them; that ``invalid-drop``
        may do harm is accepted.
        """
        base = policy.load(("default",))
        if fixes:
            rule = replace(
                base.rules["tcp-invalid-reset"],
                mode="fix",
                fixes=fixes,
                every=every,
                accept_harm=tuple(name for name in fixes if name == "invalid-drop"),
            )
            base = replace(base, rules={**base.rules, "tcp-invalid-reset": rule})
        wanted = replace(base, **{"persist": True, **settings})
        self.write("/etc/test-policy.json", policy.to_compiled(wanted))


def start(debian: Root, masked: Sequence[str] = ()) -> Box:
    """Boot a machine that shows the package and the libnftables binding, read-only.

    Units that are ``masked`` cannot start before they are unmasked.
    """
    package, binding = Path(remedies.__file__).parent, Path(nftables.__file__)
    shown = {"/opt/remedy/remedies": package, f"/opt/remedy/{binding.name}": binding}
    machine = Machine(debian, shown)
    for unit in masked:
        (machine.root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    try:
        return Box(machine.boot())
    except BaseException:
        machine.close()
        raise
