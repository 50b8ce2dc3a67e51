"""Parsers of the coordinator that a gateway, or whoever stole one, can reach."""

from typing import Final

from google.protobuf.message import DecodeError

from cloud.identity import certificates, nkey
from cloud.ingest.decode import decode
from hil.fuzz.target import Target, must
from protos import frame, subjects
from protos.vpp.v1 import telemetry_pb2


def _telemetry(data: bytes) -> None:
    """The fast way and the parser's must take the same: a frame is a frame whichever way it is read."""
    frames, bad = decode([data])
    try:
        entries = len(telemetry_pb2.Batch.FromString(data).frames)
    except DecodeError:
        must(len(frames.slot) == 0 and len(bad) == 1, "what the parser refuses was taken")
        return
    must(len(frames.slot) + len(bad) == entries, f"{entries} frames came to {len(frames.slot)} and {len(bad)} bad ones")
    padded, padded_bad = decode([data, b"\x0a\x00"])  # together with one that is never canonical
    must(len(padded.slot) == len(frames.slot), "a message is read differently beside another")
    must(len(padded_bad) == len(bad) + 1, "a bad frame beside others is lost")


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


def _request() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(certificates.make_key(), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


TARGETS: Final = (
    Target(name="telemetry", faces="an enrolled gateway", one=_telemetry, seeds=_frames()),
    Target(name="certificate-request", faces="anybody", one=_certificate_request, seeds=(_request(),)),
    Target(
        name="broker-key",
        faces="anybody",
        one=_broker_key,
        seeds=(nkey.public(nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER)).encode(),),
        longest=128,
    ),
    Target(name="site-name", faces="anybody", one=_site_name, seeds=(b"home-01",), longest=128),
)
