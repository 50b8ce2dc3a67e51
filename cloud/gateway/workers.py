"""Asks all ingest workers at once, and takes the answers that come in time."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import nats.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from opentelemetry import propagate

from protos import subjects
from protos.vpp.v1 import steer_pb2

log = logging.getLogger(__name__)

_NO_LIMIT: Final = 0
_NOBODY: Final = "503"  # the broker's own answer where no worker listens


class FleetWorkers:
    """Workers by the names of the telemetry streams whose sites they sum up, whichever process that is."""

    def __init__(self, nc: Client, names: Sequence[str], utc_ms: Callable[[], int]) -> None:
        self._nc = nc
        self.names: Final = tuple(names)
        self._utc_ms = utc_ms
        self._heard_ms: dict[str, int] = {}
        self.messages = 0  # asked and answered

    def age_s(self) -> dict[str, float]:
        """Since each worker's last answer, of those that ever gave one."""
        now_ms = self._utc_ms()
        return {name: (now_ms - heard_ms) / 1000.0 for name, heard_ms in self._heard_ms.items()}

    async def ask(self, steer: steer_pb2.Steer, within_s: float) -> list[list[steer_pb2.Share]]:
        """The whole answers, each in its parts, that came in time; at once when all are there."""
        parts: dict[str, dict[int, steer_pb2.Share]] = {}
        whole, complete = set(), asyncio.Event()

        async def on_answer(message: Msg) -> None:
            if (message.headers or {}).get("Status") == _NOBODY:
                complete.set()
                return
            try:
                share = steer_pb2.Share.FromString(message.data)
            except DecodeError as error:
                log.warning("an answer to %s is no share: %s", steer.activation, error)
                return
            self.messages += 1
            if share.sequence != steer.sequence or share.worker not in self.names:
                return
            mine = parts.setdefault(share.worker, {})
            mine[share.part] = share
            if len(mine) == share.parts:
                whole.add(share.worker)
                self._heard_ms[share.worker] = self._utc_ms()
            if len(whole) == len(self.names):
                complete.set()

        if not self._nc.is_connected:
            return []
        inbox = self._nc.new_inbox()
        headers: dict[str, str] = {}
        propagate.inject(headers)
        subscription = await self._nc.subscribe(
            inbox, cb=on_answer, pending_msgs_limit=_NO_LIMIT, pending_bytes_limit=_NO_LIMIT
        )
        try:
            self.messages += 1
            await self._nc.publish(subjects.STEER, steer.SerializeToString(), reply=inbox, headers=headers or None)
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await complete.wait()
        except (OSError, nats.errors.Error) as error:
            log.warning("workers cannot be asked: %r", error)
        finally:
            if self._nc.is_connected:
                with suppress(OSError, nats.errors.Error):
                    await subscription.unsubscribe()
        return [[*parts[name].values()] for name in self.names if name in whole]
