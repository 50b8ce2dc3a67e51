"""JWTs altered, made with another algorithm, expired, or widened: the broker lets none of them in."""

import base64
import json
import ssl
from collections.abc import Callable
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client, RawCredentials

from cloud.gateway.broker import Broker
from cloud.gateway.testing import utc_now
from cloud.identity import jwt, nkey
from cloud.identity.keyring import Keyring

Token = tuple[dict[str, Any], dict[str, Any], str]


def _read(token: str) -> Token:
    head, body, signature = token.split(".")
    pad = "=" * 3
    return json.loads(base64.urlsafe_b64decode(head + pad)), json.loads(base64.urlsafe_b64decode(body + pad)), signature


def _write(head: dict[str, Any], body: dict[str, Any], signature: str) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (head, body))
    return ".".join((*parts, signature))


def another_site(token: Token) -> str:
    head, body, signature = token
    return _write(head, {**body, "name": "s2"}, signature)


def wider_rights(token: Token) -> str:
    head, body, signature = token
    return _write(head, {**body, "nats": {**body["nats"], "pub": {"allow": [">"]}}}, signature)


def later_expiry(token: Token) -> str:
    head, body, signature = token
    return _write(head, {**body, "exp": body["exp"] + 10**6}, signature)


def no_algorithm(token: Token) -> str:
    _, body, _ = token
    return _write({"typ": "JWT", "alg": "none"}, body, "")


def symmetric_algorithm(token: Token) -> str:
    """Signed with the public key as a shared secret, as libraries once let themselves be talked into."""
    import hashlib
    import hmac

    _, body, _ = token
    unsigned = _write({"typ": "JWT", "alg": "HS256"}, body, "").rstrip(".")
    mac = hmac.new(body["iss"].encode(), unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def cut_signature(token: Token) -> str:
    head, body, signature = token
    return _write(head, body, signature[:-8])


@pytest.mark.parametrize(
    "forge", [another_site, wider_rights, later_expiry, no_algorithm, symmetric_algorithm, cut_signature]
)
async def test_forged_token_opens_nothing(
    broker: Broker, keyring: Keyring, trust: ssl.SSLContext, forge: Callable[[Token], str]
) -> None:
    user = nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER)
    now_s = int(utc_now().timestamp())
    good = jwt.site_jwt(keyring.devices, keyring.account, "s1", (), user.public, now_s=now_s, expires_s=now_s + 600)
    nc = await connect(broker, trust, good, user.seed)
    assert nc.is_connected
    await nc.close()
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await connect(broker, trust, forge(_read(good)), user.seed)


async def test_expired_token_opens_nothing(broker: Broker, keyring: Keyring, trust: ssl.SSLContext) -> None:
    user = nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER)
    now_s = int(utc_now().timestamp())
    late = jwt.site_jwt(
        keyring.devices, keyring.account, "s1", (), user.public, now_s=now_s - 700, expires_s=now_s - 100
    )
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization|expired"):
        await connect(broker, trust, late, user.seed)


async def test_stolen_token_without_its_key_opens_nothing(
    broker: Broker, keyring: Keyring, trust: ssl.SSLContext
) -> None:
    """A token is no secret: the broker's nonce has to be signed by the user's own key."""
    user, thief = (nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER) for _ in range(2))
    now_s = int(utc_now().timestamp())
    token = jwt.site_jwt(keyring.devices, keyring.account, "s1", (), user.public, now_s=now_s, expires_s=now_s + 600)
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await connect(broker, trust, token, thief.seed)


async def connect(broker: Broker, trust: ssl.SSLContext, token: str, seed: bytes) -> Client:
    nc = Client()
    credentials = RawCredentials(jwt.credentials_text(token, seed))
    await nc.connect(broker.url, tls=trust, user_credentials=credentials, allow_reconnect=False)
    return nc
