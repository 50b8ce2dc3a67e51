"""Parsers of the coordinator that a gateway, or whoever stole one, can reach."""

import contextlib
import tempfile
import traceback
from pathlib import Path
from typing import Any, Final

import numpy as np
import zstandard
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.errors import ProtocolError

from cloud.dispatch.prices import PriceGrid
from cloud.dispatch.rows import Rows, usable
from cloud.dispatch.share import Ask, Share
from cloud.dispatch.steering import Steering, answer
from cloud.dispatch.summary import ShareError, from_messages, to_messages
from cloud.dispatch.tree import Limits
from cloud.fleet.supply import AHEAD_MS, SupplyColumns
from cloud.identity import certificates, nkey
from cloud.ingest.decode import ZSTD_MAGIC, decode
from cloud.ingest.lean import LeanParser, Sink
from cloud.ingest.reader import Arrival
from cloud.ingest.reports import ReportWorker
from cloud.store.ledger import LEDGER_FILE, Ledger
from hil.fuzz.edge import NOW_MS, SITE, run_now
from hil.fuzz.target import Target, must
from protos import frame, subjects
from protos.vpp.v1 import report_pb2, steer_pb2, supply_pb2, telemetry_pb2


def _telemetry(data: bytes) -> None:
    """The fast way, the parser's and the compressed must take the same: a frame is a frame whichever way it is read."""
    frames, bad = decode([data], NOW_MS)
    if data.startswith(ZSTD_MAGIC):
        must(len(bad) <= 1 or len(frames.slot) + len(bad) > 1, "a compressed message is refused more than once")
        return
    try:
        entries = len(telemetry_pb2.Batch.FromString(data).frames)
    except DecodeError:
        must(len(frames.slot) == 0 and len(bad) == 1, "what the parser refuses was taken")
        return
    must(len(frames.slot) + len(bad) == entries, f"{entries} frames came to {len(frames.slot)} and {len(bad)} bad ones")
    for messages, extra in (([data, b"\x0a\x00"], 1), ([zstandard.compress(data)], 0)):
        other, other_bad = decode(messages, NOW_MS)
        must(np.array_equal(other.counts, frames.counts), "a message is read differently beside another or compressed")
        must(len(other_bad) == len(bad) + extra, "a bad frame beside others or compressed is lost")


_GRID: Final = PriceGrid()
_SLOT: Final = 3


def _supply(data: bytes) -> None:
    """The fast way and the parser's take the same, and whatever is taken can be summed and runs out."""
    columns = SupplyColumns(_GRID)
    taken = columns.update(np.array([_SLOT]), [data], NOW_MS)
    must(taken + columns.refused.total() == 1, "a supply function is neither taken nor refused, or more than once")
    if taken:
        must(columns.lower_w[_SLOT] <= columns.rows.power_w[0, _SLOT], "a power below the lower bound was taken")
        must(columns.rows.power_w[-1, _SLOT] <= columns.upper_w[_SLOT], "a power above the upper bound was taken")
        must(bool(usable(columns.rows, _GRID)[_SLOT]), "a function that cannot be summed was taken")
        must(
            0 <= columns.until_ms[_SLOT] <= NOW_MS + AHEAD_MS + 86_400_000, "a function was taken for longer than a day"
        )
    try:
        message = supply_pb2.SupplyFunction.FromString(data)
    except DecodeError:
        return
    other = SupplyColumns(_GRID)
    # An unknown field in front keeps it from the fast way, whatever it holds.
    again = other.update(np.array([_SLOT]), [b"\xf8\x07\x01" + message.SerializeToString()], NOW_MS)
    must(again == taken and +other.refused == +columns.refused, "a supply function is read differently by the parser")
    if taken:
        must(np.array_equal(columns.rows.ticks, other.rows.ticks), "prices are read differently by the parser")
        must(np.array_equal(columns.rows.power_w, other.rows.power_w), "powers are read differently by the parser")


def _share(data: bytes) -> None:
    """Whatever a worker tells is refused, or cleared to a price on the grid."""
    try:
        message = steer_pb2.Share.FromString(data)
    except DecodeError:
        return
    nodes = max(1, min(len(message.curves), 4))
    try:
        told = from_messages([message], nodes, _GRID)
    except ShareError:
        return
    steering = Steering([f"g{n}" for n in range(nodes)], [-1] + [0] * (nodes - 1), [told.worker], grid=_GRID, cycle_s=2)
    free = Limits(np.full(nodes, -np.inf), np.full(nodes, np.inf))
    cycle = answer(steering.cycle(1e6, free, NOW_MS), lambda ask: [told])
    for price in cycle.prices.values():
        must(_GRID.first <= price.ticks <= _GRID.last, "a price off the grid")
        must(0 <= price.step_share <= 1 and 0 <= price.tick_fraction <= 1, "a price that cannot be said")
    must(bool(np.isfinite([cycle.estimate_w, cycle.offset_w]).all()), "a sum that is no number")


def _shares() -> tuple[bytes, ...]:
    ticks = np.array([[55_000], [60_000], [60_000], [70_000]], dtype=np.int32)
    power_w = np.array([[-4_000], [0], [1_000], [5_000]], dtype=np.int32)
    rows, node = Rows(np.repeat(ticks, 2, axis=1), np.repeat(power_w, 2, axis=1)), np.arange(2)
    ask = Ask(False, 0.0, np.zeros(2), np.full(2, 59_000), np.full(2, 61_000))
    told = Share(rows, node, 2, grid=_GRID, cycle_s=2.0).tell("TEL_0", NOW_MS, np.zeros(2), ask)
    (message,) = to_messages(told, activation="a", sequence=1)
    message.moving_w.extend([1.0, 2.0])
    message.counted, message.error_w = 2, 30.0
    return (message.SerializeToString(),)


class _Undone(Exception):
    """What was kept is let go again."""


_LEDGER: Final = Ledger(Path(tempfile.mkdtemp(prefix="vpp-fuzz-")) / LEDGER_FILE)
_LEDGER.add_site(SITE, (), now_ms=1)
_LEDGER.record_intent(SITE, "service", valid_from_ms=1, expires_ms=9, body="{}", now_ms=1)


def _report(data: bytes) -> None:
    """Whatever a gateway reports, the next one's report is kept, and people are shown lines."""
    kind, body = (data[0] % 2, data[1:]) if data else (0, b"")
    token = subjects.partition_token(SITE)
    subject = subjects.event(token) if kind == 0 else subjects.acknowledgement(token)
    honest = report_pb2.Event(site=SITE, event_id="next", at_ms=NOW_MS, code="c", text="t").SerializeToString()
    arrival = Arrival(1, False, 0, (1, 2), (subject.encode(), subjects.event(token).encode()), (body, honest))
    worker = ReportWorker(Client(), ledger=_LEDGER, utc_ms=lambda: NOW_MS)
    with contextlib.suppress(_Undone), _LEDGER.transaction():
        worker.keep(arrival)
        kept = _LEDGER.events()
        must(any(event.event_id == "next" for event in kept), "an honest report was lost beside another")
        for event in kept:
            for text in (event.event_id, event.code, event.text):
                must(text.isprintable() and len(text) <= 1000, "a report shows people something that is no line")
        raise _Undone


class _Connection:
    """nats-py's client as far as its parser asks it for anything."""

    def __getattr__(self, name: str) -> Any:
        async def nothing(*_: object, **__: object) -> None:
            return None

        return nothing


def _is_nats_py(error: Exception) -> bool:
    """Whether it came up below nats-py rather than below our own parser."""
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = [module.split(".")[0] for module in modules]
    return "nats" in packages


def _broker_protocol(data: bytes) -> None:
    """Messages are the same however the stream is cut, and what is no protocol is refused as that."""
    cut, stream = (data[0] % max(1, len(data)), data[1:]) if data else (0, b"")
    taken = []
    for pieces in ((stream,), (stream[:cut], stream[cut:])):
        parser, sink = LeanParser(_Connection()), Sink()  # type: ignore[arg-type]
        parser.give(7, sink)
        try:
            for piece in pieces:
                run_now(parser.parse(piece))
        except ProtocolError:
            return
        except Exception as error:
            if _is_nats_py(error):  # nats-py ends the connection by it, as by any other
                return
            raise
        taken.append((sink.subjects, sink.replies, sink.data))
    must(taken[0] == taken[1], "messages depend on how the stream was cut")


def _certificate_request(data: bytes) -> None:
    try:
        certificates.parse_request(data)
    except ValueError:
        return


def _broker_key(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        must(nkey.check_user_public_key(text) == text, "a key is not itself")
    except ValueError:
        return


def _site_name(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        subjects.check_name(text, "site")
    except ValueError:
        return
    must(not set(text) & set("*>. /\\\r\n\t\0") and len(text) <= 63, "a name could be a wildcard, tokens or a path")


def _frames() -> tuple[bytes, ...]:
    columns = [[number + sample for sample in range(frame.SAMPLES)] for number in range(6)]
    seeds = []
    for t0_ms in (1_795_000_000_000, 6_000):
        packed = frame.pack(1, 2, t0_ms - t0_ms % 1000, 100, columns)
        seeds.append(telemetry_pb2.Batch(frames=[telemetry_pb2.Frame.FromString(packed)] * 2).SerializeToString())
    return tuple(seeds)


def _reports() -> tuple[bytes, ...]:
    event = report_pb2.Event(site=SITE, event_id="1", at_ms=NOW_MS, code="service.triggered", text="t")
    ack = report_pb2.Acknowledgement(
        site=SITE,
        event_id="2",
        at_ms=NOW_MS,
        kind="service",
        sequence=1,
        state=report_pb2.Acknowledgement.STATE_REFUSED,
        reason="r",
    )
    return b"\0" + event.SerializeToString(), b"\1" + ack.SerializeToString()


def _supply_functions() -> tuple[bytes, ...]:
    bounds: dict[str, Any] = {"lower_w": -3000, "upper_w": 4000, "energy_up_wh": 5000, "energy_down_wh": 2000}
    told: dict[str, Any] = {"site": _SLOT, "seq": 1, "at_ms": NOW_MS, "valid_s": 300}
    curves = (([5], [7]), ([-10, 100, 100, 250], [-3000, -3000, 100, 4000]), (range(16), range(16)))
    return tuple(
        supply_pb2.SupplyFunction(**told, **bounds, ticks=ticks, power_w=power_w).SerializeToString()
        for ticks, power_w in curves
    )


def _request() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(certificates.make_key(), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


TARGETS: Final = (
    Target(
        name="broker-protocol",
        faces="the broker",
        one=_broker_protocol,
        seeds=(
            b"\x10MSG a.b 7 r.s 3\r\nabc\r\nHMSG a 7 r 12 15\r\nNATS/1.0\r\n\r\nabc\r\nPING\r\n",
            b"\x05MSG a 8 2\r\nxy\r\n+OK\r\n-ERR 'x'\r\nINFO {}\r\n",
        ),
    ),
    Target(name="telemetry", faces="an enrolled gateway", one=_telemetry, seeds=_frames()),
    Target(name="share", faces="whoever has the broker's account", one=_share, seeds=_shares(), longest=4096),
    Target(name="supply-function", faces="an enrolled gateway", one=_supply, seeds=_supply_functions(), longest=512),
    Target(name="report", faces="an enrolled gateway", one=_report, seeds=_reports(), longest=1024),
    Target(name="certificate-request", faces="anybody", one=_certificate_request, seeds=(_request(),)),
    Target(
        name="broker-key",
        faces="anybody",
        one=_broker_key,
        seeds=(nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER).public.encode(),),
        longest=128,
    ),
    Target(name="site-name", faces="anybody", one=_site_name, seeds=(b"home-01",), longest=128),
)
