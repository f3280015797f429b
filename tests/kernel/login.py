"""A login over TCP in miniature: what sshd does for ``ssh -t HOST COMMAND``, without the crypto.

``login.py PORT PIDFILE COMMAND...``: takes one connection at a time; the first gets a pseudo
terminal with the command on it (and the command's process id goes to PIDFILE), the others get a
line of text. Ends when it is killed; the terminal hangs up then.
"""

from __future__ import annotations

import os
import pty
import select
import socket
import sys


def relay(connection: socket.socket, pidfile: str, command: list[str]) -> None:
    """Run the command on a terminal of its own until either side ends."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    with open(f"{pidfile}.new", "w") as file:
        file.write(str(pid))
    os.rename(f"{pidfile}.new", pidfile)
    while True:
        ready, _, _ = select.select([master, connection.fileno()], [], [])
        try:
            if master in ready:
                connection.sendall(os.read(master, 4096))
            if connection.fileno() in ready:
                data = connection.recv(4096)
                if not data:
                    return
                os.write(master, data)
        except OSError:  # EIO: the command has closed its terminal
            return


def main() -> None:
    """Listen, then serve."""
    port, pidfile, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    with socket.create_server(("0.0.0.0", port)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                if not os.path.exists(pidfile):
                    if os.fork() == 0:
                        server.close()
                        relay(connection, pidfile, command)
                        os._exit(0)
                else:
                    connection.sendall(b"welcome\n")


if __name__ == "__main__":
    main()
