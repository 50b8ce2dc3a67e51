"""How the site gets its identity, once, and keeps it: enrolment by claim token, renewal at two thirds of the life.

The broker credentials live a day, the certificate that renews them for weeks: so long an outage may last. After that,
or after a revocation, a new claim file is taken up without a restart.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import grpc

from edge_agent.model.clock import Clock
from edge_agent.model.config import AgentConfig
from edge_agent.sync.backoff import Backoff
from edge_agent.sync.claim import Claim, load_claim
from edge_agent.sync.coordinator import CoordinatorClient, Refused, Unreachable, Untrusted
from edge_agent.sync.credentials import CredentialStore, HeldCredentials
from edge_agent.sync.keys import Keys
from edge_agent.sync.state import State
from protos.settings import SettingsError
from protos.vpp.v1.site_pb2 import Credentials

log = logging.getLogger(__name__)

SUSPICION_FIRST_S = 4.0  # waited before credentials are renewed because the broker refuses them, then ever longer
SUSPICION_CAP_S = 600.0
LONGEST_NAP_S = 3600.0  # wall-clock deadlines are looked at again at least this often: the clock may step


class Identity:
    """The site's credentials."""

    def __init__(
        self,
        config: AgentConfig,
        store: CredentialStore,
        keys: Keys,
        state: State,
        client: CoordinatorClient,
        clock: Clock,
        backoff: Callable[[], Backoff],
    ) -> None:
        self._site = config.site
        self._claim_file: Path = config.coordinator.claim_file
        self._store = store
        self._keys = keys
        self._state = state
        self._client = client
        self._clock = clock
        self._backoff = backoff
        self._suspected = asyncio.Event()

    async def enrol(self) -> HeldCredentials:
        """New credentials for the claim file's token; waits for ever for an unreachable coordinator.

        Raises SettingsError where the claim file is missing or damaged, or the coordinator refuses it.
        """
        claim = load_claim(self._claim_file, self._site)
        backoff, told = self._backoff(), False
        while True:
            try:
                message = await self._client.enrol(claim)
            except Refused as refusal:
                raise SettingsError(self._explain(claim, refusal)) from refusal
            except Unreachable as error:
                if not told:
                    log.warning("coordinator unreachable, enrolment goes on trying: %s", error)
                    told = True
                await asyncio.sleep(backoff.next_s())
                continue
            held = self._keep(message)
            self._state.use_claim(claim.digest)
            log.info("enrolled: site=%s slot=%d", message.site, message.slot)
            return held

    def suspect(self) -> None:
        """The broker refuses the credentials before their time: their signing key was retired, or a clock is wrong."""
        self._suspected.set()

    async def keep_renewed(
        self, held: HeldCredentials, use: Callable[[HeldCredentials], None], tell: Callable[[str], None]
    ) -> None:
        """Renews for ever; gives every new set to `use`, and a refusal, once, as a line for a person to `tell`."""
        backoff, told = self._backoff(), False
        doubt, again = Backoff(SUSPICION_FIRST_S, SUSPICION_CAP_S), False
        while True:
            if not again:
                if await self._due(held.renew_at_ms):
                    await asyncio.sleep(doubt.next_s())  # thousands may have been refused in the same instant
                else:
                    doubt.reset()
            try:
                fresh = await self._renewed(held)
            except (Refused, Unreachable, SettingsError, OSError) as error:
                over = held.certificate_over(self._clock.utc_ms())
                if not told:
                    what = "have expired" if over else "could not be renewed yet"
                    lost = over or isinstance(error, Refused)
                    remedy = (
                        f"; a new claim file ({self._again()}) at {self._claim_file} will be taken up" if lost else ""
                    )
                    log.warning("credentials %s: %s%s", what, error, remedy)
                    tell(f"the site's credentials {what}: {error}{remedy}")
                    told = not isinstance(error, Unreachable) or over
                await asyncio.sleep(backoff.next_s())
                again = True
                continue
            held, told, again = fresh, False, False
            backoff.reset()
            log.info("credentials renewed: site=%s", held.message.site)
            use(held)

    async def _renewed(self, held: HeldCredentials) -> HeldCredentials:
        """By the certificate, also long after the broker credentials have run out, else by a claim token not used yet.

        A certificate that seems over is tried all the same where there is no claim: this clock may be wrong.
        """
        now_ms = self._clock.utc_ms()
        if held.certificate_over(now_ms) and (claim := self._unused_claim()) is not None:
            return await self._reclaimed(claim)
        try:
            fresh = self._keep(await self._client.renew(held.message, certificate=held.certificate_due(now_ms)), held)
            if fresh.message.certificate_due and not held.certificate_due(now_ms):
                fresh = self._keep(await self._client.renew(fresh.message, certificate=True), fresh)
        except Refused:
            if (claim := self._unused_claim()) is None:
                raise
            return await self._reclaimed(claim)
        return fresh

    def _unused_claim(self) -> Claim | None:
        try:
            claim = load_claim(self._claim_file, self._site)
        except SettingsError:
            return None
        return None if claim.digest == self._state.claim_used else claim

    async def _reclaimed(self, claim: Claim) -> HeldCredentials:
        try:
            fresh = self._keep(await self._client.enrol(claim))
        except Refused as refusal:
            raise SettingsError(self._explain(claim, refusal)) from refusal
        self._state.use_claim(claim.digest)
        return fresh

    def _keep(self, message: Credentials, before: HeldCredentials | None = None) -> HeldCredentials:
        if message.site != self._site:
            raise SettingsError(
                f"claim file {self._claim_file}: the coordinator answered with credentials of site "
                f"{message.site!r}, not {self._site!r}; {self._again()}"
            )
        held = HeldCredentials.received(self._clock.utc_ms(), message, before)
        self._store.save(held, self._keys)
        return held

    async def _due(self, utc_ms: int) -> bool:
        """Waits until that instant (False), or until the credentials are suspected before it (True)."""
        while (left_ms := utc_ms - self._clock.utc_ms()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LONGEST_NAP_S, left_ms / 1000.0)):
                    await self._suspected.wait()
                    self._suspected.clear()
                    return True
        self._suspected.clear()
        return False

    def _again(self) -> str:
        return f"make one with `vpp-cloud site claim {self._site} --claim-file {self._claim_file.name}`"

    def _explain(self, claim: Claim, refusal: Refused) -> str:
        """One line: the file, what the coordinator said, what to do."""
        match refusal:
            case Untrusted():
                finding = (
                    f"{claim.enrolment} does not prove to be the coordinator by its ca_certificates ({refusal}); check "
                    "the address, or this gateway's clock, or make a new claim file"
                )
            case Refused(code=grpc.StatusCode.NOT_FOUND):
                finding = f"the coordinator at {claim.enrolment} does not know its token; {self._again()}"
            case Refused(code=grpc.StatusCode.ALREADY_EXISTS):
                finding = (
                    f"its token was used before; if it was not by this gateway, revoke the site, and in any case "
                    f"{self._again()}"
                )
            case Refused(code=grpc.StatusCode.FAILED_PRECONDITION):
                finding = f"its token has expired; {self._again()}"
            case _:
                finding = f"the coordinator at {claim.enrolment} refuses to enrol: {refusal}; {self._again()}"
        return f"claim file {self._claim_file}: {finding}"
