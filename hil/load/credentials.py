"""Broker credentials as the coordinator issues them, by its own device key: a site's rights and no others."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cloud.identity import jwt, nkey
from cloud.identity.keyring import Keyring

_LIFE: Final = timedelta(days=1)


def issue(keyring: Keyring, site: str, behind: Sequence[str] = ()) -> tuple[str, nkey.Nkey]:
    """The site's JWT, and the key it is for. behind: sites in whose partitions it sends as a concentrator."""
    user, now = nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER), datetime.now(UTC)
    token = jwt.site_jwt(
        keyring.devices,
        keyring.account,
        site,
        (),
        user.public,
        behind=behind,
        now_s=int(now.timestamp()),
        expires_s=int((now + _LIFE).timestamp()),
    )
    return token, user
