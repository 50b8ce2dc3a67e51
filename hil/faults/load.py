"""Sites that send frames and keep each until the cluster has acknowledged it, as an agent's journal does.

Not the load generator's links: those count acknowledgements, one after the other. Here a stream without a leader
swallows messages, and each frame must be told apart and sent again.
"""

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import nats.errors
from nats.aio.client import Client, RawCredentials
from nats.js.errors import Error as JetStreamError

from cloud.identity import jwt
from cloud.identity.keyring import Keyring
from hil.load import credentials
from protos import frame, subjects

_ACK_S: Final = 1.0
_RETRY_S: Final = 0.05


@dataclass(slots=True)
class Sender:
    """One site. Its frames are numbered without a gap; the next one is sent when the last one was acknowledged."""

    site: str
    slot: int
    acknowledged: int = 0  # the last frame that was
    last_ack_s: float = 0.0  # monotonic
    longest_wait_s: float = 0.0  # between two acknowledgements, since the last `begin`
    trouble: set[str] = field(default_factory=set)


class Load:
    """Many sites, each on a connection of its own with a site's rights."""

    def __init__(self, urls: Sequence[str], keyring: Keyring, senders: Sequence[Sender], period_s: float) -> None:
        self._urls = list(urls)
        self._keyring = keyring
        self.senders = senders
        self._period_s = period_s

    async def run(self) -> None:
        """Sends until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number, sender in enumerate(self.senders):
                tasks.create_task(self._send(sender, number))

    def begin(self) -> None:
        """From now on count the longest wait anew."""
        for sender in self.senders:
            sender.longest_wait_s = 0.0
            sender.trouble.clear()

    def longest_wait_s(self) -> float:
        """For an acknowledgement, of whichever site, since `begin`; also of those that wait still."""
        now_s = time.monotonic()
        return max(max(sender.longest_wait_s, now_s - sender.last_ack_s) for sender in self.senders)

    def acknowledged(self) -> int:
        return sum(sender.acknowledged for sender in self.senders)

    async def _send(self, sender: Sender, number: int) -> None:
        nc = await self._connect(sender.site, self._urls[number % len(self._urls) :] + self._urls)
        js = nc.jetstream(timeout=_ACK_S)
        subject = subjects.telemetry(subjects.partition_token(sender.site))
        sender.last_ack_s = time.monotonic()
        while True:
            sequence = sender.acknowledged + 1
            t0_ms = time.time_ns() // 1_000_000 // 100 * 100
            data = frame.batch([frame.pack(sender.slot, sequence, t0_ms, 100, _values(sequence))])
            headers = {"Nats-Msg-Id": f"{sender.site}.{sequence}"}
            while True:
                try:
                    await js.publish(subject, data, headers=dict(headers))
                    break
                except (TimeoutError, OSError, nats.errors.Error, JetStreamError) as error:
                    sender.trouble.add(type(error).__name__)
                    await asyncio.sleep(_RETRY_S)
            now_s = time.monotonic()
            sender.longest_wait_s = max(sender.longest_wait_s, now_s - sender.last_ack_s)
            sender.acknowledged, sender.last_ack_s = sequence, now_s
            await asyncio.sleep(self._period_s)

    async def _connect(self, site: str, urls: Sequence[str]) -> Client:
        token, user = credentials.issue(self._keyring, site)
        nc = Client()
        await nc.connect(
            list(dict.fromkeys(urls)),
            tls=ssl.create_default_context(cafile=str(self._keyring.authority_file)),
            user_credentials=RawCredentials(jwt.credentials_text(token, user.seed)),
            inbox_prefix=subjects.inbox_prefix(site),
            dont_randomize=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=2,
            ping_interval=2,
            max_outstanding_pings=2,
            error_cb=_quiet,
        )
        return nc


async def _quiet(_: Exception) -> None:
    """What goes wrong shows in the acknowledgements."""


def _values(sequence: int) -> list[list[float | None]]:
    """Samples that tell which frame they are of, in the order of frame.POINTS."""
    power_w = float(sequence % 1000)
    return [[value] * frame.SAMPLES for value in (power_w, power_w, 0.5, 50.0, 230.0, 0.0)]
