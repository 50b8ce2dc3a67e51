"""Sites and the one-time claims by which their agents enrol."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from cloud.model.assets import Resource
from cloud.model.records import Claim, Description, Site
from cloud.store.assets import Assets, ancestors
from cloud.store.audit import COORDINATOR
from cloud.store.credentials import REPLACED, CredentialBook
from cloud.store.errors import ClaimError, ClaimProblem, LedgerError
from protos import subjects

# What bounds the power and energy that may be asked of a site, as its agent tells it.
LIMITS: Final = ("rated_power_w", "max_charge_w", "max_discharge_w", "storage_capacity_wh", "soc_min", "soc_max")

_REQUEST_MARK: Final = 32  # characters of a request's hash that are kept
_MOST_REQUESTS: Final = 64  # of one claim; more answers than that get lost on no network


class Registry(CredentialBook, Assets):
    """Who belongs to the power plant."""

    def add_site(self, site: str, groups: tuple[str, ...], now_ms: int, actor: str = COORDINATOR) -> Site:
        """A new site with the next free slot, in the groups and in those that they stand in. actor: who adds it.

        Raises LedgerError for a name that cannot be used or is taken.
        """
        try:
            subjects.check_name(site, "site")
            for group in groups:
                subjects.check_name(group, "group")
        except ValueError as error:
            raise LedgerError(str(error)) from error
        if len(set(groups)) != len(groups):
            raise LedgerError(f"site {site!r}: a group is named twice: {', '.join(groups)}")
        with self.transaction():
            if self.site(site) is not None:
                raise LedgerError(
                    f"site {site!r} exists already: choose another name, or `vpp-cloud site claim` for a further claim"
                )
            known = {group.name: group for group in self.groups()}
            above = [parent for group in groups for parent in ancestors(known, group)]
            groups = tuple(dict.fromkeys((*groups, *above)))
            (slot,) = self._execute("SELECT coalesce(max(slot) + 1, 0) FROM sites").fetchone()
            added = Site(slot=slot, site=site, groups=groups, created_ms=now_ms)
            self._insert("sites", added)
            self.audit("site.added", actor=actor, subject=site, at_ms=now_ms, slot=slot, groups=",".join(groups))
        return added

    def sites(self) -> list[Site]:
        """All sites, by slot."""
        return self._all(Site, "SELECT * FROM sites ORDER BY slot")

    def slots_from(self, first: int, most: int) -> Iterator[list[tuple[str, int, str | None]]]:
        """Site, slot and concentrator of all from slot `first` on, at most `most` at a time."""
        while rows := self._execute(
            "SELECT site, slot, concentrator FROM sites WHERE slot >= ? ORDER BY slot LIMIT ?", (first, most)
        ).fetchall():
            yield rows
            first = int(rows[-1][1]) + 1

    def members_mark(self) -> tuple[int, ...]:
        """Another one after any change of who takes part and in which groups."""
        found: tuple[int, ...] = self._execute(
            "SELECT count(*), count(enrolled_ms), coalesce(sum(enrolled_ms), 0), count(revoked_ms), "
            "coalesce(sum(revoked_ms), 0), coalesce(sum(length(groups)), 0) FROM sites"
        ).fetchone()
        return found

    def members_from(self, first: int, most: int) -> Iterator[list[tuple[str, int, str, int]]]:
        """Site, slot, groups as JSON, and 1 where it is enrolled and not revoked, of all from slot `first` on."""
        while rows := self._execute(
            "SELECT site, slot, groups, CASE WHEN enrolled_ms IS NOT NULL AND revoked_ms IS NULL THEN 1 ELSE 0 END "
            "FROM sites WHERE slot >= ? ORDER BY slot LIMIT ?",
            (first, most),
        ).fetchall():
            yield rows
            first = int(rows[-1][1]) + 1

    def concentrated(self) -> list[tuple[int, int]]:
        """Slot of each site that is behind a concentrator, and the concentrator's."""
        return self._execute(
            "SELECT behind.slot, before.slot FROM sites behind JOIN sites before ON before.site = behind.concentrator"
        ).fetchall()

    def behind(self, concentrator: str) -> list[str]:
        """The sites that a concentrator may send for, itself not among them."""
        found = self._execute("SELECT site FROM sites WHERE concentrator = ? ORDER BY slot", (concentrator,))
        return [site for (site,) in found.fetchall()]

    def set_concentrator(self, sites: Sequence[str], concentrator: str | None, now_ms: int, actor: str) -> None:
        """Lets a concentrator, a site of the registry itself, send the sites' telemetry; None: nobody any more.

        It learns its partitions with its next credentials. Raises LedgerError.
        """
        with self.transaction():
            for site in (*sites, *([concentrator] if concentrator is not None else [])):
                if self.site(site) is None:
                    raise LedgerError(f"site {site!r} is unknown: add it with vpp-cloud site add")
            if concentrator in sites:
                raise LedgerError(f"site {concentrator!r}: is its own concentrator already")
            for site in sites:
                self._execute("UPDATE sites SET concentrator = ? WHERE site = ?", (concentrator, site))
                self.audit(
                    "site.concentrator", actor=actor, subject=site, at_ms=now_ms, concentrator=concentrator or "none"
                )

    def site(self, site: str) -> Site | None:
        return self._one(Site, "SELECT * FROM sites WHERE site = ?", (site,))

    def set_description(
        self, site: str, description: Description, now_ms: int, resources: Sequence[Resource] = ()
    ) -> None:
        """Keeps what the site's agent told of itself and its devices.

        Its limits go to the audit log when they are others than before. Raises LedgerError for an unknown site.
        """
        text = msgspec.json.encode(description).decode()
        with self.transaction():
            known = self.site(site)
            if known is None:
                raise LedgerError(f"site {site!r} is unknown: add it with vpp-cloud site add")
            self._execute("UPDATE sites SET description = ? WHERE site = ?", (text, site))
            self._put_resources(site, resources)
            limits = {name: str(getattr(description, name)) for name in LIMITS}
            if known.description is None or limits != {name: str(getattr(known.description, name)) for name in LIMITS}:
                self.audit("limits.told", actor=f"site:{site}", subject=site, at_ms=now_ms, **limits)

    def configure_site(self, site: str, toml: str, now_ms: int, actor: str) -> int:
        """Sets what the site's agent is to be beyond its owner's file; its revision. The agent may refuse it.

        toml: protos/remote.py; empty: nothing. Raises LedgerError for an unknown site.
        """
        with self.transaction():
            known = self.site(site)
            if known is None:
                raise LedgerError(f"site {site!r} is unknown: see vpp-cloud site list")
            revision = (known.remote_revision or 0) + 1
            self._execute(
                "UPDATE sites SET remote_revision = ?, remote_toml = ? WHERE site = ?", (revision, toml, site)
            )
            self.audit("site.configured", actor=actor, subject=site, at_ms=now_ms, revision=revision, toml=toml)
        return revision

    def add_claim(self, token_hash: str, site: str, *, expires_ms: int, now_ms: int, actor: str = COORDINATOR) -> None:
        """A right to enrol once as the site. Raises LedgerError for an unknown site."""
        with self.transaction():
            if self.site(site) is None:
                raise LedgerError(f"site {site!r} is unknown: add it with vpp-cloud site add")
            self._insert("claims", Claim(token_hash=token_hash, site=site, created_ms=now_ms, expires_ms=expires_ms))
            self.audit(
                "claim.made", actor=actor, subject=site, at_ms=now_ms, claim=token_hash[:16], expires_ms=expires_ms
            )

    def use_claim(
        self,
        token_hash: str,
        used_by: str,
        now_ms: int,
        nats_public_key: str = "",
        *,
        gateway_key: str | None = None,
        request: str = "",
    ) -> Site:
        """The site to enrol; the claim is used up and the site is enrolled. Raises ClaimError.

        Every broker key of the site but `nats_public_key`, that of who enrols now, is revoked: a replaced gateway is
        out, and the site keeps its slot and history. A revocation of the site is over.

        used_by: fingerprint of the keys to enrol. The same keys may ask again while the claim lives and nobody was
        enrolled after them: their answer may have been lost. Nothing changes then. gateway_key: SHA-256 of the
        certificate's public key; from now on the site is known by it. request: SHA-256 of the request's own bytes,
        which differ each time it is signed: the very same ones again are a replay.
        """
        with self.transaction():
            claim = self._one(Claim, "SELECT * FROM claims WHERE token_hash = ?", (token_hash,))
            if claim is None:
                raise ClaimError(ClaimProblem.UNKNOWN, "claim token is unknown: make a new one for the site")
            site = self.site(claim.site)
            assert site is not None  # noqa: S101 (a foreign key holds it)
            if claim.used_ms is not None and (claim.used_by != used_by or claim.used_ms != site.enrolled_ms):
                raise ClaimError(
                    ClaimProblem.USED,
                    f"claim token of site {claim.site!r} was used before: make a new one",
                    claim.site,
                )
            if now_ms >= claim.expires_ms:
                raise ClaimError(
                    ClaimProblem.EXPIRED, f"claim token of site {claim.site!r} expired: make a new one", claim.site
                )
            answered = (claim.requests or "").split(",")
            mark = request[:_REQUEST_MARK]
            if mark and mark in answered:
                raise ClaimError(
                    ClaimProblem.REPLAYED,
                    f"this request of site {claim.site!r} was answered before: it is a copy; sign a new one",
                    claim.site,
                )
            requests = ",".join([mark, *answered][:_MOST_REQUESTS]) if mark else None
            self._execute("UPDATE claims SET requests = ? WHERE token_hash = ?", (requests, token_hash))
            if claim.used_ms is not None:
                return site
            self._execute(
                "UPDATE claims SET used_ms = ?, used_by = ? WHERE token_hash = ?", (now_ms, used_by, token_hash)
            )
            enrolled = replace(site, enrolled_ms=now_ms, revoked_ms=None, revoked_reason=None, gateway_keys=gateway_key)
            self._execute(
                "UPDATE sites SET enrolled_ms = ?, revoked_ms = NULL, revoked_reason = NULL, gateway_keys = ? "
                "WHERE site = ?",
                (now_ms, gateway_key, claim.site),
            )
            revoked = self._revoke_keys(claim.site, now_ms, REPLACED, keep=nats_public_key)
            self.audit(
                "claim.used",
                actor=f"site:{claim.site}",
                subject=claim.site,
                at_ms=now_ms,
                claim=token_hash[:16],
                keys=used_by,
                replaces_gateway=site.enrolled_ms is not None,
                revoked_keys=revoked,
            )
        return enrolled

    def revoke_site(self, site: str, reason: str, now_ms: int, actor: str) -> int:
        """Shuts out the site's gateway; how many broker keys that were. Its open claims are worth nothing any more.

        The site keeps its slot and history; a new claim lets a gateway in again. Raises LedgerError for an unknown
        site.
        """
        with self.transaction():
            if self.site(site) is None:
                raise LedgerError(f"site {site!r} is unknown: see vpp-cloud site list")
            self._execute("UPDATE sites SET revoked_ms = ?, revoked_reason = ? WHERE site = ?", (now_ms, reason, site))
            self._execute("UPDATE claims SET expires_ms = ? WHERE site = ? AND expires_ms > ?", (now_ms, site, now_ms))
            keys = self._revoke_keys(site, now_ms, reason)
            self.audit("site.revoked", actor=actor, subject=site, at_ms=now_ms, reason=reason, keys=keys)
        return keys
