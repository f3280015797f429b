"""As much of an FTP server as active mode needs (RFC 959, RFC 2428), for the lab.

``python -m remedies.lab.ftp_server ADDRESS`` prints ``ready`` and goes on until it is ended. Told a
port (PORT, EPRT), it opens the data connection to its client's address as it sees that, from port
20, and says ``425`` where it is refused.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

CONTROL, DATA = 21, 20


def serve(address: str) -> None:
    """Answer everybody who connects, each in a thread."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, CONTROL), family=family, backlog=64) as listener:
        print("ready", flush=True)
        while True:
            client, peer = listener.accept()
            threading.Thread(target=_session, args=(client, peer[0], address), daemon=True).start()


def _session(client: socket.socket, peer: str, address: str) -> None:
    port = 0
    with client, client.makefile("rb") as lines, contextlib.suppress(OSError):
        for line in lines:
            command, _, rest = line.decode("ascii", "replace").strip().partition(" ")
            if command == "EPRT":
                port = int(rest.split("|")[3])
            elif command == "PORT":
                high, low = rest.split(",")[4:6]
                port = 256 * int(high) + int(low)
            said = _send(address, peer, port) if command == "NLST" else b"200 well\r\n"
            client.sendall(said)


def _send(address: str, peer: str, port: int) -> bytes:
    """Open the data connection and send a listing over it; return what the session is told."""
    with socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET) as data:
        data.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        data.settimeout(5)
        try:
            data.bind((address, DATA))
            data.connect((peer, port))
            data.sendall(b"listing")
        except OSError as error:
            return f"425 no data connection: {error.strerror or error}\r\n".encode()
        return b"150 sent\r\n"


if __name__ == "__main__":
    serve(sys.argv[1])
