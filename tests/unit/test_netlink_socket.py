"""The netlink parser: well-formed messages come through, hostile ones raise or end."""

from __future__ import annotations

import contextlib
import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.errors import Unreadable
from remedies.netlink import conntrack_entry, conntrack_stats, diag, route, socket

PARSERS = (
    lambda data: list(socket.messages(data)),
    lambda data: list(socket.attributes(data)),
    lambda data: socket.failure(socket.NLM_F_ACK_TLVS, data),
    conntrack_entry.entry,
    conntrack_entry.service,
    conntrack_stats.cpu_counters,
    diag.wildcard,
    diag.tcp_or_udp,
    route.route,
    route.link,
    route.address,
    route.default_route,
    route.rule,
)

# Lengths and types of real messages, so that a hostile buffer gets past the first check.
words = st.integers(0, 0xFFFF).map(lambda n: struct.pack("=H", n))
small = st.integers(0, 40).map(lambda n: struct.pack("=H", n))
hostile = st.lists(st.one_of(words, small, st.binary(max_size=24)), max_size=80).map(b"".join)


HEADERS = (b"", bytes(20), bytes([2, 0, 0, 0]), bytes([10, 0, 0, 0]))


@given(st.sampled_from(HEADERS), hostile)
def test_a_hostile_buffer_raises_or_ends(header: bytes, data: bytes) -> None:
    for parse in PARSERS:
        with contextlib.suppress(Unreadable):
            parse(header + data)


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=50)), max_size=10))
def test_attributes_come_back_as_they_were_built(items: list[tuple[int, bytes]]) -> None:
    built = b"".join(socket.attribute(number, value) for number, value in items)
    assert len(built) % 4 == 0
    assert list(socket.attributes(built)) == items
    assert list(socket.attributes(socket.nested(7, built))) == [(7, built)]


@given(st.lists(st.tuples(st.integers(4, 0xFFFF), st.binary(max_size=50)), max_size=10))
def test_messages_come_back_as_they_were_built(items: list[tuple[int, bytes]]) -> None:
    datagram = b""
    for kind, payload in items:
        built = socket.message(kind, 0, 5, payload)
        datagram += built + bytes(-len(built) % 4)
    assert list(socket.messages(datagram)) == [(kind, 0, 5, body) for kind, body in items]


@pytest.mark.parametrize("length", [0, 3, 15, 17, 0xFFFFFFFF])
def test_a_message_length_that_cannot_be_is_refused(length: int) -> None:
    with pytest.raises(Unreadable, match="netlink"):
        list(socket.messages(struct.pack("=IHHII", length, 20, 0, 1, 0)))


@pytest.mark.parametrize("length", [0, 3, 5])
def test_an_attribute_length_that_cannot_be_is_refused(length: int) -> None:
    with pytest.raises(Unreadable, match="attribute 1"):
        list(socket.attributes(struct.pack("=HH", length, 1)))


def test_an_acknowledgement_is_no_failure() -> None:
    assert socket.failure(0, bytes(20)) is None


@pytest.mark.parametrize("number", [-(2**31), -4096, 1, 2**31 - 1])
def test_what_is_no_errno_is_unreadable(number: int) -> None:
    with pytest.raises(Unreadable, match="error number"):
        socket.failure(0, struct.pack("=i", number) + bytes(16))


def test_the_kernels_own_sentence_is_kept() -> None:
    header = socket.message(20, 0, 1, b"")
    said = socket.attribute(1, b"Invalid prefix\0")
    payload = struct.pack("=i", -errno.EINVAL) + header + said
    error = socket.failure(socket.NLM_F_ACK_TLVS | socket.NLM_F_CAPPED, payload)
    assert error is not None
    assert error.errno == errno.EINVAL
    assert str(error.strerror) == "Invalid argument (Invalid prefix)"
