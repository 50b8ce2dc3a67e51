"""What believing a command costs a gateway: parse, signature, order and times, as its sync process does it."""

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.identity.signing import CommandSigner
from edge_agent.sync import broadcasts, intents
from edge_agent.sync.intents import CommandKeys
from protos import subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2

_NOW_MS: Final = 1_700_000_000_000
_ROUNDS: Final = 2_000
# Not measured on one. Cycles of an Ed25519 verification: an Airmont Atom, as small a core as a Pi's, takes 853,552 and
# a Skylake 410,016 (OpenSSL in the table of lib25519-20230630, doc/speed.md); and a Pi 3's clock is 1.2 GHz for 3.
_PI_FACTOR: Final = 853_552 / 410_016 * 3.0 / 1.2


def verify_figures() -> dict[str, Any]:
    """Microseconds on one core here, and estimated for a Pi-class core."""
    signer = CommandSigner(Ed25519PrivateKey.generate())
    keys = CommandKeys([signer.public_key])
    schedule = intent_pb2.Schedule(start_ms=_NOW_MS, mtu_s=900, inverter_power_w=[1000] * 96)
    intent = intent_pb2.Intent(site="home-01", sequence=2, valid_from_ms=_NOW_MS, schedule=schedule)
    price = broadcast_pb2.Broadcast(group="north", sequence=2, price=broadcast_pb2.Price(ticks=4217))
    for message in (intent, price):
        message.issued_ms, message.expires_ms = _NOW_MS, _NOW_MS + 60_000
    intent_data = signer.sign(intent).SerializeToString()
    price_data = signer.sign_broadcast(price).SerializeToString()
    subject = subjects.broadcast("north", "price")

    def believe_intent() -> bool:
        verdict = intents.judge(
            intent_data,
            "schedule",
            live=True,
            site="home-01",
            keys=keys,
            accepted=None,
            now_ms=_NOW_MS,
            clock_error_ms=5.0,
        )
        return isinstance(verdict, intents.Forward)

    def believe_broadcast() -> bool:
        verdict = broadcasts.judge(price_data, subject, keys=keys, newest=1, now_ms=_NOW_MS, clock_error_ms=5.0)
        return isinstance(verdict, broadcast_pb2.Broadcast)

    figures: dict[str, Any] = {}
    for name, believe in (("intent_verify_us", believe_intent), ("broadcast_verify_us", believe_broadcast)):
        figures[name] = round(_median_us(believe), 1)
        figures[f"{name}_pi_estimate"] = round(figures[name] * _PI_FACTOR)
    figures["broadcast_pi_core_share_at_4_hz_estimate"] = round(4e-6 * figures["broadcast_verify_us_pi_estimate"], 5)
    return figures


def _median_us(work: Callable[[], bool]) -> float:
    taken = []
    for _ in range(_ROUNDS):
        began_ns = time.perf_counter_ns()
        believed = work()
        taken.append((time.perf_counter_ns() - began_ns) / 1e3)
        assert believed  # noqa: S101 (what is refused early costs less)
    return statistics.median(taken)
