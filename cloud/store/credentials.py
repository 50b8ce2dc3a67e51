"""Which broker keys a site holds, and which were taken from it."""

from typing import Final

from cloud.model.records import NatsKey, Revocation, Site
from cloud.store.audit import AuditLog
from cloud.store.errors import CredentialsRefused

REPLACED: Final = "another gateway was enrolled in its place"


class CredentialBook(AuditLog):
    """Credentials that were issued and revoked. A certificate is refused by its site, so no list of them is kept."""

    def keep_credentials(
        self, site: Site, nats_public_key: str, *, issued_ms: int, expires_ms: int, gateway_key: str | None = None
    ) -> None:
        """Records a broker key before credentials for it are handed out, so that it can be revoked later.

        site: as it was when they were asked for. gateway_key: SHA-256 of the public key that gets a certificate; the
        site is known by it from now on, and still by the one before: its answer may get lost. Raises CredentialsRefused
        when it was revoked or enrolled anew meanwhile.
        """
        with self.transaction():
            known = self._one(Site, "SELECT * FROM sites WHERE site = ?", (site.site,))
            if known is None or known.revoked_ms is not None or known.enrolled_ms != site.enrolled_ms:
                raise CredentialsRefused(f"site {site.site} was revoked or enrolled anew meanwhile")
            known_by = (known.gateway_keys or "").split(",")
            if gateway_key is not None and gateway_key not in known_by:
                keys = ",".join(key for key in (gateway_key, known_by[0]) if key)
                self._execute("UPDATE sites SET gateway_keys = ? WHERE site = ?", (keys, site.site))
            self._execute("DELETE FROM nats_keys WHERE site = ? AND expires_ms <= ?", (site.site, issued_ms))
            key = NatsKey(nats_public_key=nats_public_key, site=site.site, issued_ms=issued_ms, expires_ms=expires_ms)
            self._put("nats_keys", "nats_public_key", key)

    def revocations(self, now_ms: int) -> dict[str, int]:
        """Revoked broker keys whose credentials have not run out: key to the UTC instant [ms] up to which."""
        rows = self._all(Revocation, "SELECT * FROM revocations WHERE expires_ms > ?", (now_ms,))
        return {row.nats_public_key: row.revoked_ms for row in rows}

    def revocation_mark(self) -> tuple[int, int]:
        """Differs from what it was when something was revoked meanwhile, by whatever process."""
        count, newest = self._execute("SELECT count(*), coalesce(max(revoked_ms), 0) FROM revocations").fetchone()
        return int(count), int(newest)

    def _revoke_keys(self, site: str, now_ms: int, reason: str, *, keep: str = "") -> int:
        """Revokes the site's broker keys but `keep`; how many. To be called in a transaction."""
        keys = self._all(
            NatsKey,
            "SELECT * FROM nats_keys WHERE site = ? AND nats_public_key <> ? AND expires_ms > ?",
            (site, keep, now_ms),
        )
        for key in keys:
            self._put(
                "revocations",
                "nats_public_key",
                Revocation(
                    nats_public_key=key.nats_public_key,
                    site=site,
                    revoked_ms=now_ms,
                    expires_ms=key.expires_ms,
                    reason=reason,
                ),
            )
            self._execute("DELETE FROM nats_keys WHERE nats_public_key = ?", (key.nats_public_key,))
        return len(keys)
