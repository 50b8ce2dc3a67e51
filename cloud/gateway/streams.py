"""The broker's streams: what is kept, how long, and how much."""

from collections.abc import Sequence
from typing import Final

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from protos import subjects

_GIB: Final = 1 << 30
_DAY_S: Final = 86_400.0
_DUPLICATE_WINDOW_S: Final = 120.0
_SUPPLY_S: Final = 3600.0  # sites tell what they would do every few minutes


def stream_configs(telemetry_streams: int = 1, replicas: int = 1) -> list[StreamConfig]:
    """Every stream. The partitions are dealt to so many of telemetry; replicas: of each, on as many nodes.

    Agents retry a message under the same id: inside two minutes the second copy is dropped.
    Telemetry and reports wait here for ingest, which commits within seconds; age and size bound what an ingest that
    stands still may cost. Of intents only the last of each kind is of use, and a site reads it by direct get;
    of supply functions only a site's last, for as long as it could be in force.
    """
    telemetry = [
        _stream(subjects.telemetry_stream(group), subjects.telemetry_stream_subjects(group, telemetry_streams)).evolve(
            max_bytes=8 * _GIB // telemetry_streams, max_age=3 * _DAY_S
        )
        for group in range(telemetry_streams)
    ]
    reports = _stream(subjects.REPORT_STREAM, subjects.REPORT_SUBJECTS).evolve(max_bytes=_GIB, max_age=30 * _DAY_S)
    intents = _stream(subjects.INTENT_STREAM, subjects.INTENT_SUBJECTS).evolve(
        max_bytes=2 * _GIB, max_msgs_per_subject=1, allow_direct=True
    )
    supply = _stream(subjects.SUPPLY_STREAM, subjects.SUPPLY_SUBJECTS).evolve(
        max_bytes=_GIB, max_msgs_per_subject=1, max_age=_SUPPLY_S
    )
    return [stream.evolve(num_replicas=replicas) for stream in (*telemetry, reports, intents, supply)]


async def ensure_streams(js: JetStreamContext, telemetry_streams: int = 1, replicas: int = 1) -> None:
    """Create the streams that are missing and bring the others to what stands above.

    The number of telemetry streams may grow, not shrink: two streams would hold the same partitions. In ascending
    order a stream gives partitions away before the next one takes them.
    """
    for config in stream_configs(telemetry_streams, replicas):
        try:
            await js.update_stream(config)
        except NotFoundError:
            await js.add_stream(config)


def _stream(name: str, on: Sequence[str]) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=list(on),
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        duplicate_window=_DUPLICATE_WINDOW_S,
    )
