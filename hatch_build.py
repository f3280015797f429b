"""The build hook: puts policies and playbooks into the wheel, the policies compiled as well.

A policy is YAML for people; a host that plans should not have to parse it each time. What the
wheel gets, ``remedies/shipped_data/compiled/NAME.json``, is what :mod:`remedies.policy` loads.
An editable installation gets none of it: there :mod:`remedies.shipped` finds the folders of the
checkout, and policies may change at any time.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PolicyBuildHook(BuildHookInterface[Any]):
    """Writes the compiled policies to a temporary folder that the wheel is made from."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folders and compile each shipped policy.

        ConfigError, naming file and line, fails the build.
        """
        if version == "editable":
            return
        include: dict[str, str] = build_data["force_include"]
        sys.path.insert(0, self.root)
        try:
            import remedies
            from remedies import codec, shipped
            from remedies.policy.compile import compile_policy

            for kind in shipped.KINDS:
                include[os.path.join(self.root, kind)] = f"remedies/shipped_data/{kind}"
            # Removed when this process ends: a build that only asks for metadata never finalizes.
            self._folder = tempfile.TemporaryDirectory(prefix="remedy-build-")
            for name in shipped.policies():
                policy = codec.encode(compile_policy((name,)).policy)
                path = os.path.join(self._folder.name, f"{name}.json")
                with open(path, "w", encoding="utf-8") as file:
                    json.dump({"tool": remedies.__version__, "policy": policy}, file)
                include[path] = f"remedies/shipped_data/compiled/{name}.json"
        finally:
            sys.path.remove(self.root)
