"""The policy under which tests apply a table and chains rather than a sysctl.

Rules come and go where a test can see them, in two backends and three stores, beside other
people's; so most tests of writing and undoing use ``default`` with ``invalid-drop`` alone. What
``default`` itself does is tested where that is the question.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from dataclasses import replace

from remedies import policy

_LOADED = policy.load()
_RULE = _LOADED.rules["tcp-invalid-reset"]
_FIRST = replace(_RULE, fixes=("invalid-drop",))
COMPILED = policy.to_compiled(
    replace(_LOADED, rules={**_LOADED.rules, "tcp-invalid-reset": _FIRST})
)
"""As :func:`policy.from_compiled` reads it: nothing has to be compiled by each command."""

_handle, PATH = tempfile.mkstemp(prefix="drop-first-", suffix=".json")
"""The file that holds it while the tests run."""
with os.fdopen(_handle, "w") as _file:
    _file.write(COMPILED)
atexit.register(os.unlink, PATH)

ENVIRONMENT = {"REMEDY_POLICY": PATH}
