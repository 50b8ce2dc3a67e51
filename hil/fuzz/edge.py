"""Parsers of the agent that the broker, the coordinator or the local network can reach."""

import asyncio
import contextlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from edge_agent.forecast.exchange import Answer
from edge_agent.forecast.horizon import HORIZON
from edge_agent.model.clock import SystemClock, VirtualClock
from edge_agent.model.config import AgentConfig, ControlConfig, CoordinatorConfig, DeviceConfig
from edge_agent.model.remote import merged
from edge_agent.runtime.messages import IntentError, read_broadcast, read_intent
from edge_agent.sync import broadcasts, intents
from edge_agent.sync.claim import load_claim
from edge_agent.sync.command_keys import ROTATION_CONTEXT, key_id, vouched_for
from edge_agent.sync.notices import NoticeDoor
from edge_agent.sync.page import StatusPage
from edge_agent.sync.updates import UpdateRefused, unpack
from hil.fuzz.target import Target, must
from protos import manifest, model_file, services
from protos.settings import SettingsError
from protos.vpp.v1 import broadcast_pb2, intent_pb2, site_pb2

NOW_MS: Final = 1_795_000_000_000
SITE: Final = "home-01"

Result = TypeVar("Result")


class BelievesAll(intents.CommandKeys):
    """Keys by which everything is signed: what lies behind the signature is to be reached."""

    def __init__(self) -> None:
        super().__init__(())

    def verify(self, signed_bytes: bytes, *, signature: bytes, key_id: bytes) -> str | None:
        return None


_KEYS: Final = BelievesAll()
_CLOCK: Final = VirtualClock(utc_ms=NOW_MS)


def run_now(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    raise AssertionError("it waits")


def _intent(data: bytes) -> None:
    kind = ("schedule", "service", "envelope", "setpoint", "price", "stop")[data[0] % 6] if data else "stop"
    signed = intent_pb2.SignedIntent(intent=data[1:]).SerializeToString()
    verdict = intents.judge(
        signed, kind, live=True, site=SITE, keys=_KEYS, accepted=None, now_ms=NOW_MS, clock_error_ms=50.0
    )
    if isinstance(verdict, intents.Forward):
        must(verdict.intent.site == SITE, "an intent for another site was believed")
        must(verdict.intent.expires_ms > NOW_MS, "an expired intent was believed")
        try:
            read = read_intent(verdict.intent, 0.0)
        except IntentError:
            return
        must(read.starts_s < read.ends_s, "an intent that ends before it begins reached control")


def _signed_intent(data: bytes) -> None:
    verdict = intents.judge(
        data, "stop", live=True, site=SITE, keys=intents.CommandKeys(()), accepted=None, now_ms=NOW_MS, clock_error_ms=0
    )
    must(isinstance(verdict, intents.Refuse), "an unsigned intent was believed")


def _broadcast(data: bytes) -> None:
    signed = broadcast_pb2.SignedBroadcast(broadcast=data).SerializeToString()
    for kind in ("price", "regulation", "stop"):
        verdict = broadcasts.judge(
            signed, f"vpp.group.g.{kind}", keys=_KEYS, newest=7, now_ms=NOW_MS, clock_error_ms=50.0
        )
        if isinstance(verdict, broadcast_pb2.Broadcast):
            must(
                verdict.group == "g" and verdict.sequence > 7, "a broadcast of another group or an old one was believed"
            )
            try:
                read_broadcast(verdict, 0.0, 0.0)
            except IntentError:
                return


def _notice(data: bytes) -> None:
    asked: list[bool] = []
    for keys, signed in (
        (_KEYS, site_pb2.SignedConfigureNow(notice=data).SerializeToString()),
        (intents.CommandKeys(()), data),
    ):
        door = NoticeDoor(site=SITE, keys=keys, clock=_CLOCK, asked=lambda: asked.append(True))
        door.receive(signed)
        door.receive(signed)
    must(len(asked) <= 1, "a notice was heeded twice, or unsigned")
    if asked:
        notice = site_pb2.ConfigureNow.FromString(data)
        must(notice.site == SITE and notice.expires_ms > NOW_MS, "a notice for another site or an old one was believed")


def _model(data: bytes) -> None:
    with contextlib.suppress(model_file.ModelFileError):
        model_file.check(data, model_file.SITE_FORECAST)


def _answer(data: bytes) -> None:
    try:
        answer = msgspec.json.decode(data, type=Answer)
    except msgspec.DecodeError:
        return
    for powers_w in (answer.load_w, answer.sun_w):
        must(powers_w is None or len(powers_w) == HORIZON, "a forecast of another length was taken")


def _service(data: bytes) -> None:
    try:
        service = services.parse(data.decode("utf-8", "replace"))
    except services.ServiceError:
        return
    must(bool(service.id), "a service without a name was taken")


def _manifest(data: bytes) -> None:
    try:
        found = manifest.decode(data)
    except manifest.ManifestError:
        return
    must(manifest.decode(manifest.encode(found)) == found, "a manifest is not what it encodes to")
    for entry in found["files"]:
        path = Path(entry["path"])
        must(not path.is_absolute() and ".." not in path.parts, "a manifest's path leaves its folder")


_FOLDER: Final = Path(tempfile.mkdtemp(prefix="vpp-fuzz-"))


def _claim(data: bytes) -> None:
    path = _FOLDER / "claim.toml"
    path.write_bytes(data)
    try:
        claim = load_claim(path, SITE)
    except SettingsError:
        return
    must(claim.site == SITE, "another site's claim was taken")


_OWNERS: Final = AgentConfig(
    site=SITE,
    data_dir=_FOLDER,
    coordinator=CoordinatorConfig(claim_file=_FOLDER / "claim.toml"),
    control=ControlConfig(soc_min=0.2, soc_max=0.9, export_limit_w=5000.0),
    devices=(DeviceConfig(name="hybrid", driver="sunspec", host="192.0.2.1"),),
)


def _remote(data: bytes) -> None:
    try:
        config = merged(_OWNERS, data.decode("utf-8", "replace"), "remote configuration 1")
    except SettingsError:
        return
    control, owners = config.control, _OWNERS.control
    must(owners.soc_min <= control.soc_min < control.soc_max <= owners.soc_max, "the storage's limits were loosened")
    must(control.export_limit_w is not None and 0 <= control.export_limit_w <= 5000, "the export limit was loosened")
    must(control.guard == owners.guard, "the guard was changed from afar")
    must((config.site, config.coordinator) == (_OWNERS.site, _OWNERS.coordinator), "the owner's keys were changed")
    must([d.host for d in config.devices] == ["192.0.2.1"], "an address was changed that the owner keeps")


_PREVIOUS, _NEXT = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
_KNOWN, _FOLLOWING = _PREVIOUS.public_key().public_bytes_raw(), _NEXT.public_key().public_bytes_raw()


def _credentials(data: bytes) -> None:
    try:
        credentials = site_pb2.Credentials.FromString(data)
    except DecodeError:
        return
    must(set(vouched_for([_KNOWN], credentials)) <= {_KNOWN, _FOLLOWING}, "a command key was believed without a word")


def _wheel(data: bytes) -> None:
    outside, path = _FOLDER / "updates", _FOLDER / "wheel"
    shutil.rmtree(outside, ignore_errors=True)
    place = outside / "slot"
    place.mkdir(parents=True)
    path.write_bytes(data)
    with contextlib.suppress(UpdateRefused, OSError):
        unpack({"agent.whl": path}, place)
    must([found.name for found in outside.iterdir()] == ["slot"], "a wheel wrote beside its slot")
    must(not any(found.is_symlink() for found in place.rglob("*")), "a wheel made a link")


class _Writer:
    """What a status page answers."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    async def drain(self) -> None: ...

    def close(self) -> None: ...


def _page(data: bytes) -> None:
    async def visit() -> bytes:
        reader, writer = asyncio.StreamReader(), _Writer()
        reader.feed_data(data)
        reader.feed_eof()
        await StatusPage(SITE, _FOLDER, SystemClock(), control_pid=-1).serve(reader, writer)  # type: ignore[arg-type]
        return writer.sent

    sent = asyncio.run(visit())
    must(sent == b"" or sent.startswith(b"HTTP/1.1 "), "the page answered something that is no answer")


def _seed_intents() -> tuple[bytes, ...]:
    times: dict[str, Any] = {
        "site": SITE,
        "sequence": 1,
        "issued_ms": NOW_MS,
        "valid_from_ms": NOW_MS,
        "expires_ms": NOW_MS + 60_000,
    }
    arm = intent_pb2.ArmService(
        award_id="a",
        service_id="ercot-ffr",
        service_version=1,
        contracted_w=10,
        service_toml=services.text("ercot-ffr"),
    )
    bodies: tuple[dict[str, Any], ...] = (
        {"schedule": intent_pb2.Schedule(start_ms=NOW_MS, mtu_s=900, inverter_power_w=[1, -2])},
        {"arm": arm},
        {"envelope": intent_pb2.Envelope(start_ms=NOW_MS, mtu_s=60, import_limit_w=[1], export_limit_w=[2])},
        {"setpoint": intent_pb2.PowerSetpoint(inverter_power_w=-5, reason="test")},
        {"price": intent_pb2.FollowPrice(group="g", fallback_ticks=3)},
        {"stop": intent_pb2.StopOrder(stop=True, reason="fire")},
    )
    return tuple(
        bytes((place,)) + intent_pb2.Intent(**times, **body).SerializeToString() for place, body in enumerate(bodies)
    )


def _seed_broadcasts() -> tuple[bytes, ...]:
    times: dict[str, Any] = {"group": "g", "sequence": 8, "issued_ms": NOW_MS, "expires_ms": NOW_MS + 5000}
    bodies: tuple[dict[str, Any], ...] = (
        {"price": broadcast_pb2.Price(ticks=-3)},
        {"regulation": broadcast_pb2.Regulation(signal_e6=-500_000)},
        {"stop": intent_pb2.StopOrder(stop=True)},
    )
    return tuple(broadcast_pb2.Broadcast(**times, **body).SerializeToString() for body in bodies)


def _seed_credentials() -> bytes:
    link = site_pb2.CommandKeyRotation(
        public_key=_FOLLOWING, previous_key_id=key_id(_KNOWN), signature=_PREVIOUS.sign(ROTATION_CONTEXT + _FOLLOWING)
    )
    return site_pb2.Credentials(command_keys=[_KNOWN, _FOLLOWING], command_key_rotations=[link]).SerializeToString()


def _seed_wheels() -> tuple[bytes, ...]:
    wheels = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(buffer := io.BytesIO(), "w", compression) as archive:
            archive.writestr("edge_agent/cli.py", b"print()" * 9)
        wheels.append(buffer.getvalue())
    return tuple(wheels)


_MANIFEST: Final = manifest.encode(
    {
        "kind": "agent",
        "name": "vpp-agent",
        "version": [1, 2, 3],
        "minimum_version": [1, 0, 0],
        "board": "",
        "files": [{"path": "a/b.whl", "sha256": "0" * 64, "size": 3}],
        "issued": NOW_MS,
    }
)

TARGETS: Final = (
    Target(name="intent", faces="the coordinator, or whoever has its key", one=_intent, seeds=_seed_intents()),
    Target(name="signed-intent", faces="the broker", one=_signed_intent, seeds=(b"\x0a\x02ab\x12\x01c",)),
    Target(name="broadcast", faces="the coordinator, or whoever has its key", one=_broadcast, seeds=_seed_broadcasts()),
    Target(
        name="notice",
        faces="the broker",
        one=_notice,
        seeds=(site_pb2.ConfigureNow(site=SITE, issued_ms=NOW_MS, expires_ms=NOW_MS + 60_000).SerializeToString(),),
    ),
    Target(
        name="model-file",
        faces="whoever has an update key",
        one=_model,
        seeds=(
            b"\x08\x08\x3a\x01\x00\x42\x00\x72\x22\x0a\x11murmuration.model\x12\x0dsite-forecast"
            b"\x72\x17\x0a\x12murmuration.format\x12\x011",
        ),
    ),
    Target(
        name="model-answer",
        faces="whoever has an update key, through a model that breaks its process",
        one=_answer,
        seeds=(msgspec.json.encode(Answer(load_w=(1.5,) * HORIZON, error_w=2.0)), b'{"fault":"it does not load"}'),
    ),
    Target(
        name="service",
        faces="the coordinator, or whoever has its key",
        one=_service,
        seeds=tuple(services.text(name).encode() for name in ("ercot-ffr", "gb-dc", "ieee1547-droop")),
    ),
    Target(name="manifest", faces="the coordinator, or whoever has its key", one=_manifest, seeds=(_MANIFEST,)),
    Target(
        name="remote-configuration",
        faces="the coordinator, or whoever has its certificate",
        one=_remote,
        seeds=(b'[control]\nsoc_min = 0.3\nexport_limit_w = 0\n[[devices]]\nname = "hybrid"\ntimeout_s = 0.5\n',),
        longest=1024,
    ),
    Target(
        name="credentials",
        faces="the coordinator, or whoever has its certificate",
        one=_credentials,
        seeds=(_seed_credentials(),),
    ),
    Target(name="wheel", faces="whoever has an update key", one=_wheel, seeds=_seed_wheels()),
    Target(
        name="claim",
        faces="whoever hands the installer a file",
        one=_claim,
        seeds=(b'site = "home-01"\nenrolment = "h:1"\ntoken = "t"\nca_certificates = "x"\n',),
    ),
    Target(
        name="status-page",
        faces="the gateway's own machine",
        one=_page,
        seeds=(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",),
    ),
)
