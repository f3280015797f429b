"""What has become of what we wrote, from the value that is there now."""

from __future__ import annotations

from pathlib import Path

import pytest
from builder import held

from remedies.resources import file
from remedies.status.in_force import HeldState, compare

RESOURCE = "file:/etc/sysctl.d/99-zz-remedy-x.conf"


@pytest.mark.parametrize(
    ("there", "state", "now"),
    [
        ("a = 1\n", "ours", None),
        ("a = 2\n", "drifted", "a = 2\n"),
        (None, "gone", None),
    ],
)
def test_what_is_there_now_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: str | None,
    state: HeldState,
    now: str | None,
) -> None:
    monkeypatch.setattr(file, "ROOT", str(tmp_path))
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    file.write(RESOURCE.partition(":")[2], there)
    (seen,) = compare({RESOURCE: held(RESOURCE, "a = 1\n")})
    assert (seen.transaction, seen.fix, seen.resource) == ("t1", "f", RESOURCE)
    assert (seen.state, seen.now, seen.reason) == (state, now, "")


def test_what_cannot_be_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "ROOT", str(tmp_path))
    (tmp_path / "etc").write_text("no folder\n")
    (seen,) = compare({RESOURCE: held(RESOURCE, "a = 1\n")})
    assert (seen.state, seen.now) == ("unknown", None)
    assert seen.reason
