"""The libraries that this tool can do without, and how each is added to this copy of it."""

from __future__ import annotations

import os
import sys

NAMES = {
    "ansible": ("ansible-core", "ansible-core"),
    "ansible_runner": ("ansible-runner", "python3-ansible-runner"),
    "iptc": ("python-iptables", "python3-iptables"),
    "jinja2": ("Jinja2", "python3-jinja2"),
    "junitparser": ("junitparser", "python3-junitparser"),
    "nftables": ("pip-nftables", "python3-nftables"),
    "prometheus_client": ("prometheus-client", "python3-prometheus-client"),
    "pydantic": ("pydantic", "python3-pydantic"),
    "shtab": ("shtab", "python3-shtab"),
    "trestle": ("compliance-trestle", ""),
    "yaml": ("PyYAML", "python3-yaml"),
}
"""Module to the project that pip installs and Debian's package; no package: Debian has none."""
_DEBIAN = "/etc/debian_version"
_PIPX = "pipx_metadata.json"
"""What pipx keeps in each environment that it makes, wherever that is; none of them has pip."""


def how_to_add(module: str) -> str:
    """Return the command that adds the library of ``module`` where this copy looks for it.

    A copy in a virtual environment, which pipx makes too, finds what is installed there alone. The
    system's Python is the package manager's (PEP 668).
    """
    project, package = NAMES.get(module, (module, ""))
    if sys.prefix != sys.base_prefix:
        if os.path.exists(os.path.join(sys.prefix, _PIPX)):
            return f"pipx inject {os.path.basename(sys.prefix)} {project}"
        return f"{os.path.join(sys.prefix, 'bin', 'pip')} install {project}"
    if package and os.path.exists(_DEBIAN):
        return f"apt install {package}"
    return f"install remedies in a virtual environment, and {project} in it"
