"""Enrolment: a one-time claim token becomes a site's identity. No client certificate: the token is the proof."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

import grpc
import grpc.aio

from cloud.gateway.credentials import CredentialIssuer
from cloud.identity import certificates, nkey
from cloud.identity.claims import keys_fingerprint, redeem_claim
from cloud.model.records import EventRecord, Severity
from cloud.store.errors import ClaimError, ClaimProblem, CredentialsRefused
from cloud.store.ledger import Ledger
from protos.vpp.v1 import site_pb2, site_pb2_grpc

log = logging.getLogger(__name__)

_STATUS: Final = {
    ClaimProblem.UNKNOWN: grpc.StatusCode.NOT_FOUND,
    ClaimProblem.USED: grpc.StatusCode.ALREADY_EXISTS,
    ClaimProblem.EXPIRED: grpc.StatusCode.FAILED_PRECONDITION,
}


class EnrolmentService(site_pb2_grpc.EnrolmentServicer):
    """Serves vpp.v1.Enrolment."""

    def __init__(self, ledger: Ledger, issuer: CredentialIssuer, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._now = now

    async def Enrol(  # noqa: N802 (named by the contract)
        self,
        request: site_pb2.EnrolRequest,
        context: grpc.aio.ServicerContext[site_pb2.EnrolRequest, site_pb2.Credentials],
    ) -> site_pb2.Credentials:
        """Credentials for the token's site. What does not parse is refused before the token is used up.

        Asked again by the same keys, it answers again: the first answer may have been lost on its way.
        """
        try:
            public_key = certificates.parse_request(request.certificate_request)
            nats_public_key = nkey.check_user_public_key(request.nats_public_key)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        now = self._now()
        now_ms = int(now.timestamp() * 1000)
        try:
            keys = keys_fingerprint(public_key, nats_public_key)
            site = await asyncio.to_thread(
                redeem_claim, self._ledger, request.claim_token, keys, nats_public_key, now_ms=now_ms
            )
        except ClaimError as error:
            log.warning("enrolment refused: peer=%s reason=%s", context.peer(), error)
            await asyncio.to_thread(
                partial(
                    self._ledger.audit,
                    "claim.refused",
                    actor=f"address:{context.peer()}",
                    subject=error.site or "",
                    at_ms=now_ms,
                    problem=str(error.problem),
                )
            )
            await context.abort(_STATUS[error.problem], str(error))
        try:
            credentials = await asyncio.to_thread(self._issuer.issue, site, public_key, nats_public_key, now=now)
        except CredentialsRefused as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        assert site.enrolled_ms is not None  # noqa: S101 (by this claim)
        event = EventRecord(
            site=site.site,
            event_id=f"enrolled-{site.enrolled_ms}",  # asked again, it is the same enrolment
            at_ms=site.enrolled_ms,
            severity=Severity.INFO,
            code="site.enrolled",
            text=f"a gateway enrolled from {context.peer()}, agent version {request.agent_version[:40] or 'unknown'}",
        )
        await asyncio.to_thread(self._ledger.add_event, event)
        log.info("enrolled: site=%s slot=%d peer=%s", site.site, site.slot, context.peer())
        return credentials
