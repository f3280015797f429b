"""SHA-256 for small texts, without OpenSSL where Python has its own.

``hashlib`` loads OpenSSL before anything else: two thirds of what starting Python takes. CPython's
``random`` avoids that in the same way. What hashes megabytes is better off with ``hashlib``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256 as sha256
else:
    try:
        from _sha2 import sha256  # Python 3.12 and later
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:
            from hashlib import sha256 as sha256
