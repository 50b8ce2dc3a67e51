"""Which notices of a new configuration are believed."""

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.sync.intents import CommandKeys
from edge_agent.sync.notices import NoticeDoor
from protos.vpp.v1.site_pb2 import ConfigureNow, SignedConfigureNow

NOW_MS = 1_700_000_000_000
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
PUBLIC = KEY.public_key().public_bytes_raw()


class Clock:
    now_ms = NOW_MS

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_ms / 1000


def notice(key: Ed25519PrivateKey = KEY, prefix: bytes = b"vpp.v1.ConfigureNow\0", **changed: Any) -> bytes:
    fields = {"site": "home-01", "issued_ms": NOW_MS, "expires_ms": NOW_MS + 60_000, **changed}
    data = ConfigureNow(**fields).SerializeToString()
    key_id = hashlib.sha256(PUBLIC).digest()[:8]
    return SignedConfigureNow(notice=data, signature=key.sign(prefix + data), key_id=key_id).SerializeToString()


class Site:
    def __init__(self) -> None:
        self.asked = 0
        self.clock = Clock()
        self.door = NoticeDoor(site="home-01", keys=CommandKeys([PUBLIC]), clock=self.clock, asked=self._ask)

    def _ask(self) -> None:
        self.asked += 1


def test_each_newer_notice_is_heeded_once() -> None:
    site = Site()
    for data in (notice(), notice(), notice(issued_ms=NOW_MS - 1), notice(issued_ms=NOW_MS + 1)):
        site.door.receive(data)
    assert site.asked == 2


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xff", id="garbage"),
        pytest.param(b"", id="empty"),
        pytest.param(notice(OTHER), id="another's signature"),
        pytest.param(notice(prefix=b"vpp.v1.Broadcast\0"), id="signed as a broadcast"),
        pytest.param(notice(prefix=b""), id="signed as an intent"),
        pytest.param(notice(site="home-02"), id="for another site"),
        pytest.param(notice(expires_ms=NOW_MS + 1000), id="may have expired, by this clock"),
    ],
)
def test_what_is_not_to_be_believed_is_not_heeded(data: bytes) -> None:
    site = Site()
    site.door.receive(data)
    assert site.asked == 0
