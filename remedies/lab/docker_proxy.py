"""A real docker-proxy: ``python -m remedies.lab.docker_proxy ADDRESS PORT INNER INNER-PORT``.

It publishes the inner address, a container's, on the outer one, and becomes the process of that
name; Docker starts it the same way. docker-proxy tells its parent over descriptor 3 when it is
bound (moby, cmd/docker-proxy/main.go): then ``ready`` is printed.
"""

from __future__ import annotations

import os
import shutil
import sys

READY = b"0\n"


def main(address: str, port: str, container: str, container_port: str) -> None:
    """Fork: the child waits for the word and prints it, the parent becomes docker-proxy."""
    program = shutil.which("docker-proxy", path=f"{os.environ.get('PATH', '')}:/usr/libexec/docker")
    if program is None:
        sys.exit("docker-proxy is not installed: apt install docker.io")
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        said = os.read(reading, 100)
        print("ready" if said == READY else f"docker-proxy: {said.decode()}", flush=True)
        os._exit(0)
    os.dup2(writing, 3)
    words = {
        "-proto": "udp",
        "-host-ip": address,
        "-host-port": port,
        "-container-ip": container,
        "-container-port": container_port,
    }
    os.execv(program, ["docker-proxy", *(word for pair in words.items() for word in pair)])  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
