"""The policy under which tests apply a table and chains rather than a sysctl.

Rules come and go where a test can see them, in two backends and three stores, beside other
people's; so most tests of writing and undoing use ``default`` with ``invalid-drop`` alone, whose
harm the policy accepts. What ``default`` itself does is tested where that is the question.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from remedies import policy
from remedies.values import replace

_LOADED = policy.load()
_RULE = _LOADED.rules["tcp-invalid-reset"]
_FIRST = replace(_RULE, fixes=("invalid-drop",), accept_harm=("invalid-drop",))
COMPILED = policy.to_compiled(
    replace(_LOADED, rules={**_LOADED.rules, "tcp-invalid-reset": _FIRST})
)
"""As :func:`policy.from_compiled` reads it: nothing has to be compiled by each command."""

_FOLDER = tempfile.mkdtemp(prefix="drop-first-")
os.chmod(_FOLDER, 0o755)  # some commands run as somebody else
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
PATH = os.path.join(_FOLDER, "drop-first.json")
"""The file that holds it while the tests run."""
YAML = os.path.join(_FOLDER, "drop-first.yaml")
"""The same as a person writes it, for what lays another policy over it."""
with open(PATH, "w") as _file:
    _file.write(COMPILED)
with open(YAML, "w") as _file:
    _file.write(
        "apiVersion: remedy/v1\nname: default\nextends: default\n"
        "rules:\n  tcp-invalid-reset: {mode: fix, from: exposed, fixes: [invalid-drop],"
        " accept_harm: [invalid-drop]}\n"
    )

ENVIRONMENT = {"REMEDY_POLICY": PATH}
