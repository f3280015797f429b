"""Ends at once, with one line, on a Python that cannot run remedy.

Runs first in the bundle and in what starts it over SSH, so every Python from 2.7 on must be able
to read this text.
"""

import sys

if sys.version_info < (3, 9):  # noqa: UP036
    sys.stderr.write(
        "remedy: " + sys.executable + " is Python " + ".".join(map(str, sys.version_info[:2]))
        + ", and remedy needs 3.9 or newer; install a newer one, or name one (Ansible: "
        "ansible_python_interpreter)\n"
    )  # fmt: skip
    sys.exit(1)

sys.dont_write_bytecode = True

try:
    import json  # noqa: F401
    from importlib.util import find_spec

    if find_spec("_ctypes") is None:  # Python was built without libffi
        raise ImportError("no _ctypes", name="ctypes")
except ImportError as error:
    # Debian's python3-minimal: a host where nobody has installed python3.
    sys.stderr.write(
        "remedy: the standard library of " + sys.executable + " is not complete (no "
        + str(error.name) + "); install it whole (Debian: apt install python3)\n"
    )  # fmt: skip
    sys.exit(1)
