"""What connections are told and asked: how much the kernel takes for one, what has arrived, what stays behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cacheserver.web.sending.tcp import UNSENT_BYTES, acked_bytes, is_established, reset_on_close, serve_on

BLOCK = bytes(1 << 16)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """An accepted connection, and its client, which takes little at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serve_on(listening)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listening.getsockname())
        node, _ = listening.accept()
    node.setblocking(False)
    with node, client:
        yield node, client


def filled(node: socket.socket) -> int:
    """Send until the kernel takes no more; how much it took."""
    sent = 0
    for _ in range(1000):
        try:
            sent += node.send(BLOCK)
        except BlockingIOError:
            return sent
    raise AssertionError("the kernel takes everything")


def test_the_kernel_takes_little_for_a_client_that_does_not_read(ends: tuple[socket.socket, socket.socket]) -> None:
    node, client = ends
    sent = filled(node)
    assert len(BLOCK) < sent <= UNSENT_BYTES + 3 * len(BLOCK)
    assert node.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    acked = acked_bytes(node)
    assert acked is not None
    assert acked < sent
    taken = 0
    while taken < sent:
        taken += len(client.recv(1 << 16))
    assert filled(node) > 0, "there is room again"
    now_acked = acked_bytes(node)
    assert now_acked is not None
    assert now_acked >= sent - len(BLOCK)


def test_nothing_stays_behind_a_connection_that_is_reset(ends: tuple[socket.socket, socket.socket]) -> None:
    node, client = ends
    sent = filled(node)
    assert is_established(node)
    reset_on_close(node)
    node.close()
    taken, was_reset = 0, False
    while taken < sent and not was_reset:
        try:
            taken += len(client.recv(1 << 16))
        except ConnectionResetError:
            was_reset = True
    assert was_reset
    assert taken < UNSENT_BYTES


def test_a_socket_that_is_no_connection_knows_nothing() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert acked_bytes(one) is None
        assert not is_established(one)
    reset_on_close(one)
    assert acked_bytes(one) is None
