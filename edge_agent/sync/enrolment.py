"""How the site gets its identity, once, and keeps it: enrolment by claim token, renewal at two thirds of the life."""

import asyncio
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

    async def keep_renewed(
        self, held: HeldCredentials, use: Callable[[HeldCredentials], None], tell: Callable[[str], None]
    ) -> None:
        """Renews for ever; gives every new set to `use`, and a refusal, once, as a line for a person to `tell`."""
        backoff, told = self._backoff(), False
        while True:
            await self._until(held.renew_at_ms)
            try:
                fresh = await self._renewed(held)
            except (Refused, Unreachable, SettingsError, OSError) as error:
                if not told:
                    expired = self._clock.utc_ms() >= held.message.expires_ms
                    what = "have expired" if expired else "could not be renewed yet"
                    remedy = (
                        f"; a new claim file ({self._again()}) at {self._claim_file} will be taken up"
                        if expired
                        else ""
                    )
                    log.warning("credentials %s: %s%s", what, error, remedy)
                    tell(f"the site's credentials {what}: {error}{remedy}")
                    told = not isinstance(error, Unreachable) or expired
                await asyncio.sleep(backoff.next_s())
                continue
            held, told = fresh, False
            backoff.reset()
            log.info("credentials renewed: site=%s", held.message.site)
            use(held)

    async def _renewed(self, held: HeldCredentials) -> HeldCredentials:
        """By the old credentials while they live, else by a claim token that was not used yet."""
        if self._clock.utc_ms() < held.message.expires_ms:
            return self._keep(await self._client.renew(held.message))
        claim = load_claim(self._claim_file, self._site)
        if claim.digest == self._state.claim_used:
            raise SettingsError("the claim file's token is used")
        fresh = self._keep(await self._client.enrol(claim))
        self._state.use_claim(claim.digest)
        return fresh

    def _keep(self, message: Credentials) -> HeldCredentials:
        if message.site != self._site:
            raise SettingsError(
                f"claim file {self._claim_file}: the coordinator answered with credentials of site "
                f"{message.site!r}, not {self._site!r}; {self._again()}"
            )
        held = HeldCredentials(self._clock.utc_ms(), message)
        self._store.save(held, self._keys)
        return held

    async def _until(self, utc_ms: int) -> None:
        while True:
            left_ms = utc_ms - self._clock.utc_ms()
            if left_ms <= 0:
                return
            await asyncio.sleep(min(LONGEST_NAP_S, left_ms / 1000.0))

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
