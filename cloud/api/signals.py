"""The regulation signals that groups hear, for the console to draw what they should do."""

import math
from collections import defaultdict, deque
from typing import Final

from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from protos import subjects
from protos.vpp.v1 import broadcast_pb2

_KEPT: Final = 64  # values of a group: more than two minutes of them
_MILLION: Final = 1e6


class HeardSignals:
    """Shown, never acted upon: signatures are the sites' business."""

    def __init__(self) -> None:
        self._heard: defaultdict[str, deque[tuple[int, int, float]]] = defaultdict(lambda: deque(maxlen=_KEPT))

    async def listen(self, connection: Client) -> None:
        """From now on."""
        await connection.subscribe(subjects.broadcast_to_all("regulation"), cb=self._hear)

    async def _hear(self, message: Msg) -> None:
        try:
            signed = broadcast_pb2.SignedBroadcast.FromString(message.data)
            said = broadcast_pb2.Broadcast.FromString(signed.broadcast)
        except DecodeError:
            return
        if said.HasField("regulation"):
            self.note(said.group, said.issued_ms, said.expires_ms, said.regulation.signal_e6 / _MILLION)

    def note(self, group: str, issued_ms: int, expires_ms: int, share: float) -> None:
        self._heard[group].append((issued_ms, expires_ms, share))

    def at(self, group: str, at_ms: int) -> float:
        """The share that a group is to follow at an instant; NaN where nothing is known to hold then."""
        for issued_ms, expires_ms, share in reversed(self._heard.get(group, ())):
            if issued_ms <= at_ms:
                return share if at_ms < expires_ms else math.nan
        return math.nan
