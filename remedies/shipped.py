"""Where ``policies/``, ``playbooks/`` and ``monitoring/`` are: beside the package, or in a wheel.

They lie outside the package so that people find them at the top of the repository. The build
hook (``hatch_build.py``) copies them into ``remedies/shipped_data/`` of the wheel and adds
``compiled/``: each shipped policy as the plain data that :mod:`remedies.policy` loads.
"""

from __future__ import annotations

import os
from typing import Any, Optional

import remedies
from remedies.errors import RemedyError

KINDS = ("policies", "playbooks", "monitoring")
POLICIES = (
    "default",
    "docker-host",
    "kubernetes-node",
    "nat-gateway",
    "observe-only",
    "voip-gateway",
)
"""The shipped policies by name; a single-file bundle has them without a folder to list."""

_PACKAGE = os.path.dirname(os.path.abspath(remedies.__file__))
_DATA = os.path.join(_PACKAGE, "shipped_data")


def folder(kind: str) -> str:
    """Return the folder of a shipped kind, one of :data:`KINDS`.

    Raises RemedyError where it is not on the file system: in a single-file bundle, which carries
    only the compiled policies, or in a damaged installation.
    """
    for path in (os.path.join(_DATA, kind), os.path.join(os.path.dirname(_PACKAGE), kind)):
        if os.path.isdir(path):
            return path
    raise RemedyError(
        f"the shipped {kind} are not in this installation ({_PACKAGE})",
        "install remedies from its wheel or source tree",
    )


def policies() -> dict[str, str]:
    """Return each shipped policy's name and file, sorted by name."""
    path = folder("policies")
    return {
        entry[: -len(".yaml")]: os.path.join(path, entry)
        for entry in sorted(os.listdir(path))
        if entry.endswith(".yaml")
    }


def compiled(name: str) -> Optional[bytes]:
    """Return a shipped policy as it was compiled when the wheel was built, or None.

    None in a checkout, where the policy's source may have changed since. The import system reads
    it, so that it is found in a zip file too.
    """
    if not name.replace("-", "").isalnum():
        return None
    loader: Any = remedies.__spec__.loader if remedies.__spec__ else None
    try:
        data: bytes = loader.get_data(os.path.join(_DATA, "compiled", f"{name}.json"))
    except (AttributeError, OSError):  # a loader without files, or no such file
        return None
    return data
