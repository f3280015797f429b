"""Where ``-o`` may write: not into what another user reads, and not for ever."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from as_root import needs_root

from remedies.cli.files import write_file
from remedies.errors import RemedyError


def fifo(path: Path) -> str:
    os.mkfifo(path, 0o666)
    return str(path)


def test_a_pipe_that_nobody_reads_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(RemedyError, match="a pipe without a reader"):
        write_file(fifo(tmp_path / "pipe"), "text")


def test_a_pipe_of_our_own_is_written_to(tmp_path: Path) -> None:
    path = fifo(tmp_path / "pipe")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(path, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)


@needs_root
def test_a_pipe_of_another_user_is_refused(tmp_path: Path) -> None:
    path = fifo(tmp_path / "pipe")
    os.chown(path, 65534, 65534)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(RemedyError, match=r"another user|Permission"):
            write_file(path, "text")
        assert os.read(reader, 10) == b""
    finally:
        os.close(reader)


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        with pytest.raises(RemedyError, match="a pipe without a reader"):
            write_file(str(tmp_path / "socket"), "text")


def test_a_device_of_the_machine_is_written_to() -> None:
    write_file("/dev/null", "text")
