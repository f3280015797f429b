"""What every play of the tests is started with."""

from __future__ import annotations

from pathlib import Path

UNUSED = str(Path(__file__).resolve().parent / "unused")
"""The ``PYTHONPATH`` of Ansible: libraries in the way of those that no play of the tests needs."""
