"""The NATS session: drains the journal to the broker and listens for intents, over one connection after another.

nats-py's own reconnecting is switched off: it gives up for good on authentication errors and buffers what is published
while disconnected, and the journal does that better. Here a lost connection is always answered by a new client.

After a longer outage two lanes send telemetry side by side, each in order: what is measured from now on goes at once,
what has waited goes at a bounded rate. The coordinator knows by the sequence numbers what is still to come.
"""

import asyncio
import base64
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from edge_agent.sync.backoff import Backoff
from edge_agent.sync.journal import Journal, JournalError, ReportKind
from edge_agent.sync.keys import Keys
from protos import frame, subjects
from protos.vpp.v1.site_pb2 import Credentials

log = logging.getLogger(__name__)

BATCH_FRAMES = 500
SHORT_BACKLOG = 120  # frames; so few are sent at once, before what is measured now
CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 3.0
ACK_TIMEOUT_S = 10.0
ACK_ATTEMPTS = 3  # unanswered; then the connection counts as dead
REFUSED_PAUSE_S = 15.0  # then credentials that were refused are tried again: the broker may have been wrong
PING_INTERVAL_S = 2  # with two outstanding: a frozen broker is noticed after about 6 s

# What nats-server says to credentials that it does not take, or takes no longer; nats-py passes it on in lower case.
REFUSALS = ("authorization violation", "authentication expired", "authentication revoked")

TroubleTypes = (OSError, TimeoutError, ValueError, nats.errors.Error, JournalError)


@dataclass(frozen=True, slots=True)
class Flight:
    """A batch on its way. It stays as it is until acknowledged, so that a second copy is known as one by its id."""

    first_seq: int
    last_seq: int
    frames: int
    payload: bytes
    message_id: str


class Session:
    """One site's conversation with the broker."""

    def __init__(
        self,
        *,
        site: str,
        keys: Keys,
        credentials: Credentials,
        journal: Journal,
        on_intent: Callable[[str, bytes, bool], None],
        on_broadcast: Callable[[str, bytes], None],
        on_notice: Callable[[bytes], None],
        on_link: Callable[[bool], None],
        on_refusal: Callable[[], None],
        backoff: Backoff,
        drain_frames_per_s: float,
        ack_timeout_s: float = ACK_TIMEOUT_S,
    ) -> None:
        """
        Args:
            on_intent: takes kind, bytes, and whether it came live (else from the store); raises JournalError.
            on_broadcast: takes subject and bytes of what was said to a group.
            on_notice: takes the bytes of a notice that what the site is to be has changed.
            on_link: told each change of whether a session is live.
            on_refusal: told when the broker refuses the credentials.
            drain_frames_per_s: of what has waited.
        """
        self._site = site
        self._keys = keys
        self._credentials = credentials
        self._journal = journal
        self._on_intent = on_intent
        self._on_broadcast = on_broadcast
        self._on_notice = on_notice
        self._on_link = on_link
        self._on_refusal = on_refusal
        self._backoff = backoff
        self._doubt = Backoff(REFUSED_PAUSE_S, REFUSED_PAUSE_S)
        self._refused = False
        self._ack_timeout_s = ack_timeout_s
        self._drain_frames_per_s = drain_frames_per_s
        self._flights: dict[str, Flight] = {}  # by lane
        self._lanes = {lane: asyncio.Event() for lane in ("telemetry", "reports")}
        self._drained = {lane: asyncio.Event() for lane in ("telemetry", "backlog", "reports")}
        self._renewed = asyncio.Event()
        self._groups: tuple[str, ...] = ()
        self._supply: bytes | None = None
        self._offered = asyncio.Event()
        self._linked = False
        self._troubles: set[str] = set()

    def wake(self) -> None:
        """Something was added to the journal."""
        for lane in self._lanes:
            self._drained[lane].clear()
            self._lanes[lane].set()

    def use(self, credentials: Credentials) -> None:
        """Reconnects with new credentials; what is in flight is sent again under the same id."""
        self._credentials = credentials
        self._renewed.set()

    def follow(self, groups: Iterable[str]) -> None:
        """Listens to what is said to these groups, and to no others; reconnects where that is another set."""
        wanted = tuple(sorted(set(groups)))
        if wanted != self._groups:
            self._groups = wanted
            self._renewed.set()

    def offer(self, supply: bytes) -> None:
        """Publishes a supply function now, and again on each new connection; a newer one takes its place."""
        self._supply = supply
        self._offered.set()

    async def finish(self, within_s: float) -> None:
        """Waits until the journal is drained, if there is a session and that is soon enough."""
        if not self._linked:
            return
        self.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for drained in self._drained.values():
                    await drained.wait()

    async def run(self) -> None:
        """Holds a session for ever, through every outage."""
        former: Client | None = None
        try:
            while True:
                _heed_cancellation()
                former = await self._one_connection(former)
                if former is not None:
                    continue
                self._tell_link(False)
                await self._pause()
        finally:
            await _close(former)

    async def _pause(self) -> None:
        """Before the next attempt: with credentials that were refused, until there are others, or a good while.

        Thousands that knock with credentials of a retired key would keep the broker from those that have new ones.
        """
        if not self._refused:
            await asyncio.sleep(self._backoff.next_s())
            return
        self._refused = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._doubt.next_s()):
                await self._renewed.wait()

    async def _one_connection(self, former: Client | None) -> Client | None:
        """Connects, and works until the connection ends; the connection itself if new credentials are to be used.

        former: a connection that goes on listening until this one does, so that nothing live falls between the two.
        """
        self._renewed.clear()
        closed = asyncio.Event()
        client = Client()
        planned = False
        try:
            await self._connect(client, closed)
            await self._listen(client)
            _heed_cancellation()
            await _close(former)
            former = None
            self._backoff.reset()
            self._refused = False
            self._troubles.clear()
            self._tell_link(True)
            planned = await self._work(client, closed)
        except TroubleTypes as error:
            self._tell_trouble(error)
        finally:
            await _close(former)
            if not planned:
                await _close(client)
        return client if planned else None

    async def _connect(self, client: Client, closed: asyncio.Event) -> None:
        credentials = self._credentials

        def sign(nonce: str) -> bytes:
            # Before anything secret is said: a server that offers no TLS is not our broker, however it answers.
            if not client._server_info.get("tls_required"):
                raise nats.errors.SecureConnRequiredError
            return base64.b64encode(self._keys.sign_nonce(nonce))

        async def on_closed() -> None:
            closed.set()

        async def on_error(error: Exception) -> None:
            self._tell_trouble(error)

        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await client.connect(
                servers=list(credentials.nats_urls),
                name=self._site,
                tls=ssl.create_default_context(cadata=credentials.ca_certificates.decode("ascii")),
                user_jwt_cb=lambda: bytearray(credentials.nats_jwt.encode()),
                signature_cb=sign,
                inbox_prefix=subjects.inbox_prefix(self._site),
                allow_reconnect=False,
                max_reconnect_attempts=1,  # of one address within this attempt; 0 and less would mean for ever
                reconnect_time_wait=0,
                connect_timeout=int(CONNECT_TIMEOUT_S),
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=2,
                closed_cb=on_closed,
                error_cb=on_error,
            )

    async def _listen(self, client: Client) -> None:
        """Subscribes to intents first, then reads what is current: nothing falls between the two."""
        for group in self._groups:
            await client.subscribe(subjects.broadcasts(group), cb=self._receive_broadcast)
        await client.subscribe(subjects.configure_now(self._site), cb=self._receive_notice)
        for kind in subjects.INTENT_KINDS:
            await client.subscribe(subjects.intent(self._site, kind), cb=self._receiver(kind))
        for kind in subjects.INTENT_KINDS:
            stored = await client.request(subjects.latest_intent(self._site, kind), b"", timeout=REQUEST_TIMEOUT_S)
            if (stored.headers or {}).get("Status") is None:
                self._on_intent(kind, stored.data, False)

    def _receiver(self, kind: str) -> Callable[[Msg], Awaitable[None]]:
        async def receive(message: Msg) -> None:
            self._on_intent(kind, message.data, True)

        return receive

    async def _receive_broadcast(self, message: Msg) -> None:
        self._on_broadcast(message.subject, message.data)

    async def _receive_notice(self, message: Msg) -> None:
        self._on_notice(message.data)

    async def _work(self, client: Client, closed: asyncio.Event) -> bool:
        """Sends until the connection is lost, or new credentials are to be used (True)."""
        stream = client.jetstream(timeout=self._ack_timeout_s)
        ends = [asyncio.create_task(event.wait()) for event in (closed, self._renewed)]
        lanes = [asyncio.create_task(lane(stream)) for lane in (self._send_all_telemetry, self._send_reports)]
        lanes.append(asyncio.create_task(self._send_supply(client)))
        try:
            done, _ = await asyncio.wait([*ends, *lanes], return_when=asyncio.FIRST_COMPLETED)
            for lane in done.intersection(lanes):
                lane.result()  # raises what ended it
            return not closed.is_set()
        finally:
            for task in (*ends, *lanes):
                task.cancel()
            await asyncio.gather(*ends, *lanes, return_exceptions=True)

    async def _send_all_telemetry(self, stream: JetStreamContext) -> None:
        self._drained["backlog"].clear()
        for lane in list(self._flights):  # left under way by the connection before: first, and as they are
            await self._land(stream, lane)
        long = self._journal.frames_waiting > SHORT_BACKLOG
        live_from = self._journal.next_seq if long else 0
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_telemetry(stream, live_from))
                group.create_task(self._send_backlog(stream, live_from))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _send_telemetry(self, stream: JetStreamContext, first_seq: int) -> None:
        """Frames from first_seq on, as they come."""
        while True:
            self._lanes["telemetry"].clear()
            if not self._take_off("telemetry", self._journal.oldest_frames(BATCH_FRAMES, first=first_seq)):
                self._drained["telemetry"].set()
                await self._lanes["telemetry"].wait()
                continue
            await self._land(stream, "telemetry")

    async def _send_backlog(self, stream: JetStreamContext, before_seq: int) -> None:
        """Frames before before_seq, no faster than may be; ends when there are none left."""
        while self._take_off("backlog", self._journal.oldest_frames(BATCH_FRAMES, before=before_seq)):
            frames = await self._land(stream, "backlog")
            await asyncio.sleep(frames / self._drain_frames_per_s)
        self._drained["backlog"].set()

    def _take_off(self, lane: str, rows: list[tuple[int, bytes]]) -> bool:
        """Puts frames on their way; False where there are none."""
        if rows:
            first_seq, last_seq = rows[0][0], rows[-1][0]
            payload = frame.batch(body for _, body in rows)
            message_id = f"{self._site}-{first_seq}-{last_seq}"
            self._flights[lane] = Flight(first_seq, last_seq, len(rows), payload, message_id)
        return bool(rows)

    async def _land(self, stream: JetStreamContext, lane: str) -> int:
        """Delivers what is on its way, and forgets it; how many frames it was."""
        flight = self._flights[lane]
        subject = subjects.telemetry(self._credentials.partition_token)
        await self._deliver(stream, subject, flight.payload, flight.message_id)
        self._journal.frames_acknowledged(flight.first_seq, flight.last_seq)
        del self._flights[lane]
        _heed_cancellation()
        return flight.frames

    async def _send_reports(self, stream: JetStreamContext) -> None:
        token = self._credentials.partition_token
        while True:
            self._lanes["reports"].clear()
            report = self._journal.oldest_report()
            if report is None:
                self._drained["reports"].set()
                await self._lanes["reports"].wait()
                continue
            of = subjects.event if report.kind is ReportKind.EVENT else subjects.acknowledgement
            await self._deliver(stream, of(token), report.body, f"{self._site}-{report.event_id}")
            self._journal.report_acknowledged(report)
            _heed_cancellation()

    async def _send_supply(self, client: Client) -> None:
        """Told again before it runs out anyway: nothing is waited for."""
        while True:
            self._offered.clear()
            if self._supply is not None:
                await client.publish(subjects.supply_function(self._credentials.partition_token), self._supply)
            await self._offered.wait()

    async def _deliver(self, stream: JetStreamContext, subject: str, payload: bytes, message_id: str) -> None:
        """Publishes until the broker says that it has it on its disk. Raises TimeoutError, nats' errors."""
        unanswered = 0
        while True:
            _heed_cancellation()
            try:
                await stream.publish(subject, payload, headers={"Nats-Msg-Id": message_id})
                return
            except nats.errors.TimeoutError:
                unanswered += 1
                if unanswered == ACK_ATTEMPTS:
                    raise
            except nats.js.errors.APIError as error:  # the stream is full, or has no leader now
                self._tell_trouble(error)
                await asyncio.sleep(self._backoff.next_s())

    def _tell_link(self, connected: bool) -> None:
        if connected != self._linked:
            self._linked = connected
            log.info("session %s: site=%s", "live" if connected else "lost", self._site)
            self._on_link(connected)

    def _tell_trouble(self, error: Exception) -> None:
        """Logs each trouble of an outage once, not each time it is met."""
        if isinstance(error, nats.errors.NoServersError) and self._troubles:
            return  # says only that what was told before ended the attempt
        text = str(error) or type(error).__name__
        if any(word in text.lower() for word in REFUSALS):
            self._refused = True
            self._on_refusal()
        if text not in self._troubles:
            self._troubles.add(text)
            log.warning("broker trouble: site=%s error=%s", self._site, text)


def _heed_cancellation() -> None:
    """Raises the cancellation that was asked for and went by unheard.

    asyncio.wait_for of Python 3.11, on which nats-py's requests stand, forgets one that comes together with the answer.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _close(client: Client | None) -> None:
    """In a task of its own: nats-py's close swallows a cancellation, and whoever waits here must not lose one."""
    if client is None:
        return
    closing = asyncio.create_task(client.close())
    try:
        await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
    finally:
        if not closing.done():
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
