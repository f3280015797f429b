"""The watch's numbers over HTTP, served by a process of its own that the watch feeds.

A slow or hostile client holds up that process alone. It ends with the watch, whatever ends that.
"""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import os
import signal
import socket
import threading
import time

from remedies.errors import RemedyError, Unreadable, UsageError
from remedies.namespaces import child
from remedies.values import dataclass

LOOPBACK = "127.0.0.1"
TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_LARGEST = 1 << 20
"""Octets of one update."""
_CLIENTS = 8
"""Connections at a time; what comes beyond is closed."""
_SLOW = 5.0
"""Seconds that a client may take."""
_BACKLOG = 16


def address(text: str) -> tuple[str, int]:
    """Return address and port of ``PORT``, ``:PORT``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT``.

    Without an address it is the loopback. Raises UsageError; a name is refused, because what it
    stands for may change.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or LOOPBACK
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        raise UsageError(
            f"--listen {text!r}: expected PORT, or ADDRESS:PORT with an IP address",
            "for example 9720 (this host alone) or 192.0.2.1:9720 (other machines, too)",
        ) from None
    if not 0 <= number <= 65535:
        raise UsageError(f"--listen {text!r}: no port {number}", "give one from 1 to 65535")
    return host, number


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens in this namespace; raise RemedyError where it may not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RemedyError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            "choose another address or port",
        ) from None
    listener.listen(_BACKLOG)
    return listener


class Endpoint:
    """Serves what it was fed last under ``/metrics``; ``/healthz`` is 200 once that is ready."""

    def __init__(self, listener: socket.socket, stale_after: float) -> None:
        """Fork a process that answers on the socket, which is its from here on.

        Without news for ``stale_after`` seconds the answer is 503: the watch hangs.
        """
        with listener:
            self.port = int(listener.getsockname()[1])
            self._feed, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LARGEST)
                self._feed.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
                with child.signals_wait() as mask:  # the watch ends the process, no signal does
                    self._pid = child.fork(
                        lambda: self._serve(listener, theirs, stale_after), mask, signal.SIG_IGN
                    )
        self._feed.setblocking(False)

    def __enter__(self) -> Endpoint:
        """Return the endpoint."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._feed.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _serve(self, listener: socket.socket, feed: socket.socket, stale_after: float) -> None:
        """Be the server, until the watch ends."""
        self._feed.close()
        _answer(listener, feed, stale_after)

    def update(self, text: str, *, ready: bool) -> None:
        """Serve this from now on. Raises Unreadable where the process has died."""
        try:
            self._feed.send((b"1" if ready else b"0") + text.encode())
        except BlockingIOError:  # it is behind: the next one is as good
            return
        except OSError as error:
            raise Unreadable(f"the process that serves metrics has ended: {error}") from error


@dataclass
class _ServedText:
    """What is served, and the monotonic time since when."""

    text: bytes = b""
    ready: bool = False
    since: float = 0.0


def _answer(listener: socket.socket, feed: socket.socket, stale_after: float) -> None:
    latest = _ServedText()
    free = threading.BoundedSemaphore(_CLIENTS)

    class Answers(http.server.BaseHTTPRequestHandler):
        timeout = _SLOW
        server_version, sys_version = "remedy", ""

        def do_GET(self) -> None:
            fresh = bool(latest.text) and time.monotonic() - latest.since <= stale_after
            if self.path == "/metrics":
                self._say(200 if fresh else 503, TYPE, latest.text if fresh else b"# EOF\n")
            elif self.path == "/healthz":
                healthy = fresh and latest.ready
                self._say(
                    200 if healthy else 503, "text/plain", b"ok\n" if healthy else b"not ready\n"
                )
            else:
                self._say(404, "text/plain", b"see /metrics\n")

        def _say(self, code: int, kind: str, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing: standard error is the watch's."""

    def cut(client: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is answered
            client.shutdown(socket.SHUT_RDWR)

    def answer(client: socket.socket, peer: object) -> None:
        late = threading.Timer(_SLOW, cut, (client,))  # also for who sends an octet now and then
        late.daemon = True
        late.start()
        try:
            with client, contextlib.suppress(OSError):  # it went away, or was too slow
                Answers(client, peer, None)  # type: ignore[arg-type]
        finally:
            late.cancel()
            free.release()

    def accept() -> None:
        while True:
            client, peer = listener.accept()
            if free.acquire(blocking=False):
                threading.Thread(target=answer, args=(client, peer), daemon=True).start()
            else:
                client.close()

    threading.Thread(target=accept, daemon=True).start()
    while True:
        content = feed.recv(_LARGEST)
        if not content:
            return
        latest.ready, latest.text = content[:1] == b"1", content[1:]
        latest.since = time.monotonic()
