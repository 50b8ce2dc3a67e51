"""The channel on a real SEQPACKET pair."""

import socket
from collections.abc import Iterator

import pytest

from edge_agent.runtime import ipc
from edge_agent.runtime.ipc import Channel


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(5.0)
    channel = Channel()
    channel.attach(ours)
    yield channel, theirs
    channel.detach()
    theirs.close()


def test_one_message_a_datagram_both_ways(pair: tuple[Channel, socket.socket]) -> None:
    channel, sync = pair
    channel.send(b"event")
    channel.send_snapshot(b"snapshot")
    assert [sync.recv(100), sync.recv(100)] == [b"event", b"snapshot"]
    sync.send(b"intent")
    sync.send(b"link")
    assert channel.receive() == [b"intent", b"link"]
    assert channel.receive() == []


def test_full_buffer_drops_snapshots_and_keeps_the_rest_in_order(pair: tuple[Channel, socket.socket]) -> None:
    channel, sync = pair
    while not channel.snapshots_dropped:
        channel.send_snapshot(b"s" * 1000)
    sent = channel.snapshots_sent
    channel.send(b"event 1")
    channel.send(b"event 2")
    assert channel.waiting == 2
    for _ in range(sent):
        assert sync.recv(2000) == b"s" * 1000
    channel.send_snapshot(b"last")
    assert [sync.recv(100) for _ in range(3)] == [b"event 1", b"event 2", b"last"]
    assert (channel.waiting, channel.snapshots_dropped) == (0, 1)


def test_sync_that_goes_away_is_survived_and_the_next_one_gets_what_waited(
    pair: tuple[Channel, socket.socket],
) -> None:
    channel, sync = pair
    sync.close()
    assert channel.receive() == []
    channel.send(b"event")
    channel.send_snapshot(b"snapshot")
    assert (channel.waiting, channel.snapshots_dropped) == (1, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        theirs.settimeout(5.0)
        channel.attach(ours)
        channel.flush()
        assert theirs.recv(100) == b"event"


def test_writing_to_a_dead_sync_keeps_the_message(pair: tuple[Channel, socket.socket]) -> None:
    channel, sync = pair
    sync.close()
    channel.send(b"event")
    assert channel.waiting == 1


def test_waiting_messages_are_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc, "KEPT", 3)
    channel = Channel()
    for i in range(5):
        channel.send(b"%d" % i)
    assert (channel.waiting, channel.messages_dropped) == (3, 2)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        theirs.settimeout(5.0)
        channel.attach(ours)
        channel.flush()
        assert [theirs.recv(10) for _ in range(3)] == [b"2", b"3", b"4"]
    channel.detach()


def test_detaching_is_end_of_file_for_sync(pair: tuple[Channel, socket.socket]) -> None:
    channel, sync = pair
    channel.detach()
    assert sync.recv(100) == b""
