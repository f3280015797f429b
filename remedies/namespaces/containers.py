"""Names of containers, from the daemon that runs them where its socket answers.

Docker Engine API, ``GET /containers/json``; podman's service answers the same. A path socket is
reached from every network namespace (unix(7)).
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import time
from collections.abc import Iterator

from remedies.namespaces import machine

SOCKETS = tuple(machine.ROOT + name for name in ("/run/docker.sock", "/run/podman/podman.sock"))
PATIENCE = 1.0
"""Seconds in which a daemon has to answer: a name is a comfort, not evidence."""

_REQUEST = b"GET /containers/json HTTP/1.0\r\nHost: localhost\r\n\r\n"
_MOST = 16 * 1024 * 1024
"""Octets; a container takes about 1,500."""


def names(unread: list[str]) -> dict[str, str]:
    """Return id (12 digits) to name of the running containers; empty where no daemon answers.

    ``unread`` takes why a daemon that is there did not answer.
    """
    found: dict[str, str] = {}
    for answer in answers(unread):
        for container, name in parse(answer).items():
            found.setdefault(container, name)
    return found


def answers(unread: list[str]) -> Iterator[bytes]:
    """Yield what each daemon that there is answers: an HTTP head and a JSON body.

    One that the environment variable DOCKER_HOST names by a ``unix://`` path is asked first.
    ``unread`` takes why one that is there did not answer, in time or at all.
    """
    chosen = os.environ.get("DOCKER_HOST", "")
    first = (chosen[len("unix://") :],) if chosen.startswith("unix://") else ()
    for path in dict.fromkeys(first + SOCKETS):
        try:
            answer = _ask(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            continue  # no daemon there
        except socket.timeout:
            unread.append(f"names of containers: {path} took too long to answer ({PATIENCE:g} s)")
        except OSError as error:
            unread.append(f"names of containers: {path}: {error.strerror or error}")
        else:
            if _is_good(answer):
                yield answer
            else:
                said = answer[:60].split(b"\r\n", 1)[0].decode(errors="replace")
                unread.append(f"names of containers: {path}: answers {said!r}")


def _ask(path: str) -> bytes:
    """Return all that a daemon answers in time; raise OSError, EFBIG for more than is read."""
    until = time.monotonic() + PATIENCE
    answer = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        client.connect(path)
        client.sendall(_REQUEST)
        poll = select.poll()
        poll.register(client, select.POLLIN)
        while len(answer) <= _MOST:
            # What is there is taken, also where this process had no processor for all that time.
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise socket.timeout
            part = client.recv(65536)
            if not part:
                return bytes(answer)
            answer += part
    raise OSError(errno.EFBIG, f"answers with more than {_MOST >> 20} MiB")


def _is_good(answer: bytes) -> bool:
    """Tell whether the first line of an HTTP answer has status 200 (RFC 9112, section 4)."""
    return answer.split(b"\r\n", 1)[0].split(b" ")[1:2] == [b"200"]


def parse(answer: bytes) -> dict[str, str]:
    """Return id (12 digits) to name of an HTTP answer; nothing of what is not as documented."""
    if not _is_good(answer):
        return {}
    body = answer.partition(b"\r\n\r\n")[2]
    try:
        containers = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    found = {}
    for entry in containers if isinstance(containers, list) else ():
        if not isinstance(entry, dict):
            continue
        container, given = entry.get("Id"), entry.get("Names")
        if isinstance(container, str) and isinstance(given, list) and given:
            # A linked container has more names; its own holds one slash only.
            own = [n for n in given if isinstance(n, str) and n.count("/") <= 1] or [""]
            if own[0].lstrip("/"):
                found[container[:12]] = own[0].lstrip("/")
    return found
