"""Audit: verify a namespace's journal, sign its head, and read a signed head."""

from __future__ import annotations

import json
import os
from typing import Any

from remedies import codec
from remedies.errors import InputError, RemedyError
from remedies.facts.gather import now
from remedies.facts.host import read_host
from remedies.transaction import audit, state
from remedies.transaction.audit import Audit
from remedies.transaction.journal import NAME
from remedies.values import dataclass

NAMESPACE = "remedy-audit"
"""The namespace of the signature (``ssh-keygen -Y sign -n``): it is valid for nothing else."""
PROVES = (
    "A signature proves that the holder of its key had a journal with this head. It does not prove "
    "that what the journal says is true, nor that nothing was left out of it when it was written."
)


@dataclass(frozen=True)
class Statement:
    """What is signed of a journal."""

    text: str
    """JSON: the host, the head, and what the signature proves."""
    records: int
    head: str


def verify(state_dir: str, head: str) -> tuple[str, Audit]:
    """Check the journal of the namespace this process is in; return its path and what was found.

    ``head``: a head hash kept elsewhere, or empty. Raises NotPermitted.
    """
    path = os.path.join(state.folder(state_dir, read_host().netns), NAME)
    return path, audit.verify(path, head or None)


def statement(state_dir: str) -> Statement:
    """Return what there is to sign of the journal; raise InputError where it was altered."""
    path, found = verify(state_dir, "")
    if found.open:
        raise InputError(f"{path}: {found.open[0]}", "the journal was altered, so it is not signed")
    host = read_host()
    plain = {
        "kind": NAMESPACE,
        "host": host.name,
        "machine_id": host.machine_id,
        "netns": host.netns,
        "records": found.records,
        "head": found.head,
        "time": now(),
        "repairs": [str(repair) for repair in found.repairs],
        "proves": PROVES,
    }
    return Statement(json.dumps(plain, indent=2) + "\n", found.records, found.head)


def sign(path: str, key: str) -> None:
    """Sign the file ``path`` with an SSH key; the signature is beside it, ``path.sig``.

    Raises RemedyError and InputError with ssh-keygen's words.
    """
    _ssh_keygen("sign", "-f", key, "-n", NAMESPACE, path)


def signed_head(text: str, path: str, signers: str, signer: str) -> str:
    """Return the head of a signed statement, the file ``path``, whose signature is beside it.

    ``signers``: the file of allowed signers (ssh-keygen(1)); ``signer``: who has to have signed.
    Raises InputError where the statement or its signature fails, RemedyError.
    """
    words = ("-f", signers, "-I", signer, "-n", NAMESPACE, "-s", f"{path}.sig")
    _ssh_keygen("verify", *words, text=text)
    plain: Any = codec.loads(text, path)
    head = plain.get("head") if isinstance(plain, dict) else None
    if not isinstance(head, str) or plain.get("kind") != NAMESPACE:
        raise InputError(f"{path}: not a statement of 'remedy audit sign'")
    return head


def _ssh_keygen(action: str, *words: str, text: str = "") -> None:
    import subprocess

    argv = ["ssh-keygen", "-Y", action, *words]
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, timeout=30, check=False
        )
    except OSError as error:
        raise RemedyError(f"ssh-keygen: {error.strerror}", "install OpenSSH's client") from None
    except subprocess.TimeoutExpired:
        raise RemedyError(
            "ssh-keygen did not finish in time", "use a key without a passphrase, or ssh-agent"
        ) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:200]
        raise InputError(f"ssh-keygen -Y {action}: {said}", "check key, names and files")
