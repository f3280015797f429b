"""The mark of tests that give files to other users: without root they cannot."""

from __future__ import annotations

import os

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners are root's to change")
"""As root, and so on CI, a skip is a failure: see tests/conftest.py."""
