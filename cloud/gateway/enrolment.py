"""Enrolment: a one-time claim token becomes a site's identity. No client certificate: the token is the proof."""

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final
from urllib.parse import unquote

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.api.lockout import Lockout
from cloud.gateway.credentials import CredentialIssuer
from cloud.gateway.group_commit import GroupCommit
from cloud.identity import certificates, nkey
from cloud.identity.claims import key_fingerprint, keys_fingerprint, redeem_claim
from cloud.model.records import EventRecord, Severity, Site
from cloud.store.errors import ClaimError, ClaimProblem, CredentialsRefused
from cloud.store.ledger import Ledger
from protos.vpp.v1 import site_pb2, site_pb2_grpc

log = logging.getLogger(__name__)

_STATUS: Final = {
    ClaimProblem.UNKNOWN: grpc.StatusCode.NOT_FOUND,
    ClaimProblem.USED: grpc.StatusCode.ALREADY_EXISTS,
    ClaimProblem.EXPIRED: grpc.StatusCode.FAILED_PRECONDITION,
    ClaimProblem.REPLAYED: grpc.StatusCode.ALREADY_EXISTS,
}
# A token has 160 bits: nobody finds one by guessing. This keeps who tries from wearing out disk and log.
ADDRESS_GUESSES: Final = 10
ALL_GUESSES: Final = 500
GUESS_WINDOW_S: Final = 900.0
_EVERYBODY: Final = "everybody"


class EnrolmentService(site_pb2_grpc.EnrolmentServicer):
    """Serves vpp.v1.Enrolment."""

    def __init__(
        self,
        ledger: Ledger,
        issuer: CredentialIssuer,
        now: Callable[[], datetime],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._together = GroupCommit(ledger)
        self._now = now
        self._guesses = Lockout(failures=ADDRESS_GUESSES, window_s=GUESS_WINDOW_S, monotonic_s=monotonic_s)
        self._all_guesses = Lockout(failures=ALL_GUESSES, window_s=GUESS_WINDOW_S, monotonic_s=monotonic_s)
        self._flooded = False

    async def Enrol(  # noqa: N802 (named by the contract)
        self,
        request: site_pb2.EnrolRequest,
        context: grpc.aio.ServicerContext[site_pb2.EnrolRequest, site_pb2.Credentials],
    ) -> site_pb2.Credentials:
        """Credentials for the token's site. What does not parse is refused before the token is used up.

        Asked again by the same keys, it answers again: the first answer may have been lost on its way.
        """
        address = _address(context.peer())
        if wait_s := self._guesses.locked_for_s(address):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"too many refused claims; come back in {wait_s / 60:.0f} minutes"
            )
        try:
            public_key = certificates.parse_request(request.certificate_request)
            nats_public_key = nkey.check_user_public_key(request.nats_public_key)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        now = self._now()
        try:
            site, credentials = await self._together.run(
                partial(self._enrol, request, public_key, nats_public_key, context.peer(), now)
            )
        except ClaimError as error:
            await self._refused(error, address, context.peer(), now)
            await context.abort(_STATUS[error.problem], str(error))
        except CredentialsRefused as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        credentials.first_seq = await asyncio.to_thread(self._issuer.first_seq, site)
        self._guesses.succeeded(address)
        log.info("enrolled: site=%s slot=%d peer=%s", site.site, site.slot, context.peer())
        return credentials

    def _enrol(
        self,
        request: site_pb2.EnrolRequest,
        public_key: ec.EllipticCurvePublicKey,
        nats_public_key: str,
        peer: str,
        now: datetime,
    ) -> tuple[Site, site_pb2.Credentials]:
        """All that an enrolment writes. To be called in a transaction."""
        site = redeem_claim(
            self._ledger,
            request.claim_token,
            keys_fingerprint(public_key, nats_public_key),
            nats_public_key,
            now_ms=int(now.timestamp() * 1000),
            gateway_key=key_fingerprint(public_key),
            request=request.certificate_request,
        )
        credentials = self._issuer.issue(site, public_key, nats_public_key, now=now)
        assert site.enrolled_ms is not None  # noqa: S101 (by this claim)
        version = request.agent_version[:40] or "unknown"
        self._ledger.add_event(
            EventRecord(
                site=site.site,
                event_id=f"enrolled-{site.enrolled_ms}",  # asked again, it is the same enrolment
                at_ms=site.enrolled_ms,
                severity=Severity.INFO,
                code="site.enrolled",
                text=f"a gateway enrolled from {peer}, agent version {version}",
            )
        )
        return site, credentials

    async def _refused(self, error: ClaimError, address: str, peer: str, now: datetime) -> None:
        """Counts it against the address and, while not everybody guesses at once, puts it into the audit log."""
        self._guesses.failed(address)
        self._all_guesses.failed(_EVERYBODY)
        if self._all_guesses.locked_for_s(_EVERYBODY):
            if not self._flooded:
                log.error("claims are being guessed from many addresses: further refusals are not recorded one by one")
                await asyncio.to_thread(self._record, "claim.flood", "unknown", "", now, problem="many addresses")
            self._flooded = True
            return
        self._flooded = False
        log.warning("enrolment refused: peer=%s reason=%s", peer, error)
        await asyncio.to_thread(
            self._record, "claim.refused", f"address:{peer}", error.site or "", now, problem=str(error.problem)
        )
        if self._guesses.locked_for_s(address):
            log.warning("enrolment locked: address=%s", address)
            await asyncio.to_thread(self._record, "claim.locked", f"address:{address}", "", now, problem="guessing")

    def _record(self, action: str, actor: str, subject: str, now: datetime, *, problem: str) -> None:
        at_ms = int(now.timestamp() * 1000)
        self._ledger.audit(action, actor=actor, subject=subject, at_ms=at_ms, problem=problem)


def _address(peer: str) -> str:
    """Who is counted as one: an IPv4 address, or an IPv6 network of /64, for one host has as many as it likes in it."""
    host = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return peer
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host
