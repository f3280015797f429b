"""What of a journal is signed, and which signed heads are taken."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from test_audit_chain import filled, lines, write

from remedies.errors import InputError
from remedies.facts.host import read_host
from remedies.operations import audit


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return filled(tmp_path / read_host().netns)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Give an SSH key, whose owner is the signer ``auditor`` in the file ``signers`` beside it."""
    path = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=60
    )
    (tmp_path / "signers").write_text(f"auditor {path.with_suffix('.pub').read_text()}")
    return path


def signed(key: Path, text: str) -> Path:
    path = key.parent / "statement.json"
    path.write_text(text)
    audit.sign(str(path), str(key))
    return path


def head_of(key: Path, path: Path, signer: str = "auditor") -> str:
    return audit.signed_head(path.read_text(), str(path), str(key.parent / "signers"), signer)


def test_the_head_that_was_signed_is_the_journals(tmp_path: Path, journal: Path, key: Path) -> None:
    made = audit.statement(str(tmp_path))
    assert (made.records, made.head) == (6, lines(journal)[-1]["hash"])
    path = signed(key, made.text)
    assert head_of(key, path) == made.head
    with pytest.raises(InputError, match="ssh-keygen -Y verify"):
        head_of(key, path, signer="somebody")


def test_an_altered_journal_is_not_signed(tmp_path: Path, journal: Path) -> None:
    plain = lines(journal)
    plain[2]["data"]["n"] = 99
    write(journal, plain)
    with pytest.raises(InputError, match="record 3 was altered") as refused:
        audit.statement(str(tmp_path))
    assert "not signed" in refused.value.hint


@pytest.mark.parametrize("other", [{"kind": "another"}, {"head": 3}])
def test_what_is_signed_for_something_else_names_no_head(
    tmp_path: Path, journal: Path, key: Path, other: dict[str, object]
) -> None:
    plain = {**json.loads(audit.statement(str(tmp_path)).text), **other}
    with pytest.raises(InputError, match="not a statement"):
        head_of(key, signed(key, json.dumps(plain)))
