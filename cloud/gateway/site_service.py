"""What an enrolled site asks of its coordinator. The caller is whom its client certificate names, whatever it says."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.gateway import updates
from cloud.gateway.credentials import CredentialIssuer
from cloud.gateway.group_commit import GroupCommit
from cloud.identity import certificates, nkey
from cloud.identity.claims import key_fingerprint
from cloud.model.assets import Resource
from cloud.model.records import Description, Site
from cloud.store.errors import CredentialsRefused
from cloud.store.ledger import Ledger
from protos.vpp.v1 import site_pb2, site_pb2_grpc

log = logging.getLogger(__name__)

_MOST_DEVICES: Final = 64
_LONGEST_TEXT: Final = 128
_RATINGS: Final = ("rated_power_w", "max_charge_w", "max_discharge_w", "storage_capacity_wh")


class _NotTheSite(Exception):
    """A certificate that does not stand for its site. why: for the audit log, where it once did."""

    def __init__(self, text: str, *, why: str = "") -> None:
        super().__init__(text)
        self.why = why


class SiteGateway(site_pb2_grpc.SiteServiceServicer):
    """Serves vpp.v1.SiteService."""

    def __init__(
        self,
        ledger: Ledger,
        issuer: CredentialIssuer,
        *,
        updates: Path,
        telemetry_interval_ms: int,
        now: Callable[[], datetime],
    ) -> None:
        """updates: the folder of published updates' files."""
        self._ledger = ledger
        self._issuer = issuer
        self._together = GroupCommit(ledger)
        self._telemetry_interval_ms = telemetry_interval_ms
        self._now = now
        self._updates = updates
        self._told: set[tuple[str, str]] = set()  # certificates of our own making only: few

    async def Configure(  # noqa: N802 (named by the contract)
        self,
        request: site_pb2.SiteDescription,
        context: grpc.aio.ServicerContext[site_pb2.SiteDescription, site_pb2.SiteConfiguration],
    ) -> site_pb2.SiteConfiguration:
        """Keeps what stands at the site and tells what it is to be."""
        site, _ = await self._caller(context)
        try:
            description, resources = _description(request), _resources(site.site, request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"site {site.site}: {error}")
        known = await asyncio.to_thread(self._ledger.resources, site.site)
        if description != site.description or resources != known:
            now_ms = int(self._now().timestamp() * 1000)
            await asyncio.to_thread(self._ledger.set_description, site.site, description, now_ms, resources)
            log.info("described: site=%s rated_power_w=%.0f", site.site, description.rated_power_w)
        wanted = await asyncio.to_thread(updates.keep_told, self._ledger, site.site, request.updates, self._now())
        return site_pb2.SiteConfiguration(
            telemetry_interval_ms=self._telemetry_interval_ms,
            groups=site.groups,
            updates=wanted,
            coordinator_time_ms=int(self._now().timestamp() * 1000),
            remote=None
            if site.remote_revision is None
            else site_pb2.RemoteConfiguration(revision=site.remote_revision, toml=site.remote_toml or ""),
        )

    async def Renew(  # noqa: N802 (named by the contract)
        self,
        request: site_pb2.RenewRequest,
        context: grpc.aio.ServicerContext[site_pb2.RenewRequest, site_pb2.Credentials],
    ) -> site_pb2.Credentials:
        """New credentials for a site whose certificate still holds, with a new certificate where it asks for one."""
        name, certificate = await self._certificate(context)
        try:
            credentials = await self._together.run(partial(self._renew, name, certificate, request, self._now()))
        except _NotTheSite as refusal:
            await self._refuse(context, name, certificate, refusal)
        except CredentialsRefused as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        log.info("renewed: site=%s", name)
        return credentials

    def _renew(
        self, name: str, certificate: x509.Certificate, request: site_pb2.RenewRequest, now: datetime
    ) -> site_pb2.Credentials:
        """All that a renewal reads and writes. Raises _NotTheSite, CredentialsRefused; ValueError for the request."""
        site = self._site_of(name, certificate)
        wanted = request.certificate_request
        public_key = certificates.parse_request(wanted) if wanted else None
        nats_public_key = nkey.check_user_public_key(request.nats_public_key)
        due = public_key is None and not self._issuer.is_current(certificate)
        return self._issuer.issue(site, public_key, nats_public_key, now=now, certificate_due=due)

    async def Download(  # noqa: N802 (named by the contract)
        self,
        request: site_pb2.DownloadRequest,
        context: grpc.aio.ServicerContext[site_pb2.DownloadRequest, site_pb2.DownloadChunk],
    ) -> AsyncIterator[site_pb2.DownloadChunk]:
        """A file of one of the site's updates, from an offset on."""
        site, _ = await self._caller(context)
        path = await asyncio.to_thread(updates.find_file, self._ledger, self._updates, site.site, request.sha256)
        if path is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no update of site {site.site} has this file")
        if request.offset > path.stat().st_size:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, f"the file ends at {path.stat().st_size}")
        with await asyncio.to_thread(path.open, "rb") as file:
            file.seek(request.offset)
            while data := await asyncio.to_thread(file.read, updates.CHUNK_BYTES):
                yield site_pb2.DownloadChunk(data=data)

    async def _caller(self, context: grpc.aio.ServicerContext[Any, Any]) -> tuple[Site, x509.Certificate]:
        """Who calls, and with which certificate; not a site that was revoked or replaced, nor one by another's key."""
        name, certificate = await self._certificate(context)
        try:
            return await asyncio.to_thread(self._site_of, name, certificate), certificate
        except _NotTheSite as refusal:
            await self._refuse(context, name, certificate, refusal)

    async def _certificate(self, context: grpc.aio.ServicerContext[Any, Any]) -> tuple[str, x509.Certificate]:
        """The client certificate, and the site that it names."""
        peer = context.auth_context()
        name = certificates.site_from_names(peer.get("x509_subject_alternative_name", ()))
        if name is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the client certificate names no site")
        return name, x509.load_pem_x509_certificate(next(iter(peer["x509_pem_cert"])))

    def _site_of(self, name: str, certificate: x509.Certificate) -> Site:
        """The site as the ledger has it. Raises _NotTheSite where the certificate does not stand for it any more."""
        site = self._ledger.site(name)
        if site is None or site.enrolled_ms is None:
            raise _NotTheSite(f"site {name} is not in the registry")
        if site.revoked_ms is not None:
            raise _NotTheSite(f"site {name} was revoked; enrol its gateway with a new claim token", why="revoked")
        issued = certificate.not_valid_before_utc + certificates.BACKDATE
        # A certificate's times are whole seconds.
        if issued + timedelta(seconds=1) <= datetime.fromtimestamp(site.enrolled_ms / 1000, issued.tzinfo):
            raise _NotTheSite(
                f"site {name} was enrolled anew by another gateway; enrol this one with a claim token of its own",
                why="replaced",
            )
        key = certificate.public_key()
        known_by = site.gateway_keys.split(",") if site.gateway_keys else None  # None: enrolled by an older version
        if known_by is not None and not (
            isinstance(key, ec.EllipticCurvePublicKey) and key_fingerprint(key) in known_by
        ):
            raise _NotTheSite(
                f"the certificate is for another key than the one that enrolled {name}", why="not the key that enrolled"
            )
        return site

    async def _refuse(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        name: str,
        certificate: x509.Certificate,
        refusal: "_NotTheSite",
    ) -> NoReturn:
        if refusal.why:
            await self._tell_refusal(name, certificate, refusal.why)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(refusal))

    async def _tell_refusal(self, site: str, certificate: x509.Certificate, why: str) -> None:
        """Puts a refused certificate into the audit log, once: its holder goes on trying."""
        serial = f"{certificate.serial_number:x}"
        if (serial, why) in self._told:
            return
        self._told.add((serial, why))
        log.warning("certificate refused: site=%s why=%s serial=%s", site, why, serial)
        now_ms = int(self._now().timestamp() * 1000)
        entry = partial(self._ledger.audit, "certificate.refused", actor=f"site:{site}", subject=site, at_ms=now_ms)
        await asyncio.to_thread(partial(entry, serial=serial, why=why))


def _description(request: site_pb2.SiteDescription) -> Description:
    """What the agent told, checked. ValueError names the field."""
    _check_ratings(request, "")
    if not 0 <= request.soc_min <= request.soc_max <= 1:
        raise ValueError(f"soc_min {request.soc_min} and soc_max {request.soc_max}: give 0 <= soc_min <= soc_max <= 1")
    return Description(
        agent_version=_text(request.agent_version),
        rated_power_w=request.rated_power_w,
        max_charge_w=request.max_charge_w,
        max_discharge_w=request.max_discharge_w,
        storage_capacity_wh=request.storage_capacity_wh,
        soc_min=request.soc_min,
        soc_max=request.soc_max,
    )


def _resources(site: str, request: site_pb2.SiteDescription) -> list[Resource]:
    """The devices that the agent told, checked, by name. ValueError names what is wrong."""
    if len(request.devices) > _MOST_DEVICES:
        raise ValueError(f"{len(request.devices)} devices: at most {_MOST_DEVICES} behind one gateway")
    found: dict[str, Resource] = {}
    for device in request.devices:
        name = _text(device.name)
        if name in found:
            raise ValueError(f"device {name!r} is there twice: give each a name of its own")
        _check_ratings(device, f" of device {name!r}")
        found[name] = Resource(
            site=site,
            name=name,
            manufacturer=_text(device.manufacturer),
            model=_text(device.model),
            serial=_text(device.serial),
            sunspec_models=tuple(device.sunspec_models[:_LONGEST_TEXT]),
            rated_power_w=device.rated_power_w,
            max_charge_w=device.max_charge_w,
            max_discharge_w=device.max_discharge_w,
            storage_capacity_wh=device.storage_capacity_wh,
        )
    return [found[name] for name in sorted(found)]


def _check_ratings(told: site_pb2.SiteDescription | site_pb2.Device, of: str) -> None:
    for field in _RATINGS:
        value = getattr(told, field)
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{field}{of} is {value}: give a finite magnitude")


def _text(told: str) -> str:
    """What is kept of a device's words: PostgreSQL, for one, takes no zero in a text."""
    return "".join(character for character in told[:_LONGEST_TEXT] if character.isprintable())
