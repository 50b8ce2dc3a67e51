"""A lease at the broker: held by one process at a time, renewed by it, free again seconds after its holder died.

The key's revision at the moment it was taken is the fencing token: it only ever rises, so a store that has seen a newer
one can refuse whoever held the lease before and does not know yet that it is lost.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, RawStreamMsg
from nats.js.errors import APIError, NotFoundError
from nats.js.errors import Error as JetStreamError

log = logging.getLogger(__name__)

BUCKET: Final = "LEASE"
TTL_S: Final = 6
_RENEWALS: Final = 6  # within a lease's time; the holder gives up one of them before anybody else may begin
_STILL: Final = 2.5  # a lease that was not renewed for so many has no holder who is well
_POLL_S: Final = 0.25
_ANSWER_S: Final = 2.0
_RELEASED_TTL_S: Final = 1
_STREAM: Final = f"KV_{BUCKET}"
_WRONG_LAST: Final = 10071
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_NOBODY: Final = "nobody"
_QUICKER: Final = "somebody who was quicker"

_TROUBLE: Final = (TimeoutError, OSError, nats.errors.Error, JetStreamError)


class LeaseLost(Exception):
    """Somebody else may hold it by now."""


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    """Rises from one holder to the next, also when the broker lost its store and counts revisions anew."""

    bucket_created_ms: int
    revision: int


async def ensure_bucket(js: JetStreamContext, replicas: int) -> None:
    """The bucket of all leases. Raises what JetStream raises."""
    await js.create_key_value(KeyValueConfig(bucket=BUCKET, history=1, replicas=replicas))


def is_somebody(other: str) -> bool:
    """Whether what `acquire` tells is the name of a holder."""
    return other != _QUICKER and not other.startswith(f"{_NOBODY}: ")


class Lease:
    """One lease of one process. `acquire`, then `keep` for as long as it is to be held, then `release`.

    holder: names who holds it. Who finds its own name there, of a life before, need not wait until the lease has run
    out: it takes it as soon as nobody seems to renew it. ttl_s: how long it stands after its last renewal.
    """

    def __init__(
        self, connection: Client, key: str, holder: str, monotonic_s: Callable[[], float], ttl_s: int = TTL_S
    ) -> None:
        self._js = connection.jetstream(timeout=_ANSWER_S)
        self._subject = f"$KV.{BUCKET}.{key}"
        self._holder = holder
        self._life = secrets.token_hex(8)
        self._monotonic_s = monotonic_s
        self._ttl_s = ttl_s
        self._renew_s = ttl_s / _RENEWALS
        self._revision = 0
        self._valid_until_s = 0.0
        self._seen, self._seen_since_s = 0, 0.0

    @property
    def is_valid(self) -> bool:
        """Whether nobody else can hold it."""
        return self._monotonic_s() < self._valid_until_s

    async def acquire(self, stands_by: Callable[[str], None] = lambda _: None) -> Fence:
        """Returns once it is held. stands_by: told who holds it instead, when that is first found or changes."""
        told = ""
        while True:
            try:
                other = await self._try()
                if not other:
                    info = await self._js._jsm.stream_info(_STREAM)
                    created_ms = (info.created - _EPOCH) // timedelta(milliseconds=1) if info.created else 0
                    return Fence(created_ms, self._revision)
            except _TROUBLE as error:
                other = f"{_NOBODY}: the broker does not answer ({error!r})"
            if other != told:
                stands_by(other)
                told = other
            await asyncio.sleep(_POLL_S)

    async def _try(self) -> str:
        """Empty when it is held now, else the name of who holds it."""
        last = await self._last()
        revision = 0
        if last is not None and last.seq is not None:
            revision = last.seq
            if not (last.headers or {}).get("KV-Operation"):
                holder, _ = _read(last.data)
                if revision != self._seen:
                    self._seen, self._seen_since_s = revision, self._monotonic_s()
                if holder != self._holder or self._monotonic_s() - self._seen_since_s < _STILL * self._renew_s:
                    return holder
        begun_s = self._monotonic_s()
        try:
            self._revision = await self._write(revision, self._ttl_s)
        except APIError as error:
            if error.err_code == _WRONG_LAST:
                return _QUICKER
            raise
        self._valid_until_s = begun_s + self._ttl_s - self._renew_s
        return ""

    async def keep(self) -> None:
        """Renews it until that fails for too long or somebody else has it: raises LeaseLost."""
        while True:
            await asyncio.sleep(min(self._renew_s, max(0.0, self._valid_until_s - self._monotonic_s())))
            if not self.is_valid:
                raise LeaseLost("it could not be renewed in time")
            begun_s = self._monotonic_s()
            try:
                async with asyncio.timeout(self._valid_until_s - begun_s):
                    self._revision = await self._renew()
            except APIError as error:
                if error.err_code == _WRONG_LAST:
                    self._valid_until_s = 0.0
                    raise LeaseLost("somebody else has it") from error
                continue
            except _TROUBLE:
                await asyncio.sleep(_POLL_S)
                continue
            self._valid_until_s = begun_s + self._ttl_s - self._renew_s

    async def _renew(self) -> int:
        try:
            return await self._write(self._revision, self._ttl_s)
        except APIError as error:
            last = await self._last() if error.err_code == _WRONG_LAST else None
            if last is None or last.seq is None or _read(last.data) != (self._holder, self._life):
                raise
            return last.seq  # ours, by a renewal whose answer was lost

    async def release(self) -> None:
        """Lets the next one begin at once; where the broker does not answer the lease runs out by itself."""
        if not self.is_valid:
            return
        self._valid_until_s = 0.0
        try:
            await self._write(self._revision, _RELEASED_TTL_S, {"KV-Operation": "DEL"}, b"")
        except _TROUBLE as error:
            log.warning("lease %s is not released, it runs out by itself: %r", self._subject, error)

    async def _last(self) -> RawStreamMsg | None:
        try:
            return await self._js.get_last_msg(_STREAM, self._subject)
        except NotFoundError:
            return None

    async def _write(self, revision: int, ttl_s: int, more: dict[str, str] | None = None, data: bytes = b"-") -> int:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision), "Nats-TTL": f"{ttl_s}s", **(more or {})}
        value = json.dumps({"holder": self._holder, "life": self._life}).encode() if data else data
        return int((await self._js.publish(self._subject, value, stream=_STREAM, headers=headers)).seq)


def _read(data: bytes | None) -> tuple[str, str]:
    """Who holds it, and which life of theirs."""
    try:
        told = json.loads(data or b"")
        return str(told["holder"]), str(told["life"])
    except (ValueError, KeyError, TypeError):
        return "somebody unknown", ""
