"""NATS JWTs: who may connect to the broker and what they may say there.

Operator signs account, account (or its scoped signing key) signs user; the broker checks the chain by itself and needs
no list of sites. Format: version 2 of https://docs.nats.io/running-a-nats-service/configuration/securing_nats/jwt,
algorithm ed25519-nkey.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from cloud.identity.nkey import Nkey, check_user_public_key
from protos import subjects

_HEADER: Final = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"ed25519-nkey"}').rstrip(b"=")
CLAIMS_UPDATE: Final = "$SYS.REQ.CLAIMS.UPDATE"
_NO_LIMIT: Final = -1
# A site listens to its intents, its inbox and its groups; more than that is a fault of the agent.
_SITE_SUBSCRIPTIONS: Final = 64


def operator_jwt(operator: Nkey, system_account: str, signers: Sequence[str], *, now_s: int) -> str:
    """The operator's word on itself: names the account that watches the broker, and who signs accounts in its stead."""
    claims = {"type": "operator", "system_account": system_account, "signing_keys": list(signers)}
    return _mint(operator, operator.public, "murmuration", claims, now_s)


def account_jwt(
    operator_signer: Nkey,
    account: str,
    signers: Sequence[str],
    device_signers: Sequence[str],
    revocations: Mapping[str, int],
    *,
    now_s: int,
) -> str:
    """The account in which everything happens.

    signers: whose users may do everything in it. device_signers: whose users get a site's rights and no others, even
    if such a key is stolen. A signer that is left out loses its users: the broker cuts their live connections.
    revocations: users' public keys that are refused in credentials issued up to an instant [s]; the broker cuts live
    connections under them when it is told.
    """
    limits = dict.fromkeys(
        ("subs", "data", "payload", "imports", "exports", "conn", "leaf"),
        _NO_LIMIT,
    ) | {"wildcards": True}
    # These four switch JetStream on for the account; the bounds stand at the streams themselves.
    jetstream = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _NO_LIMIT)
    template = subjects.device_permissions() | {
        "subs": _SITE_SUBSCRIPTIONS,
        "data": _NO_LIMIT,
        "payload": _NO_LIMIT,
    }
    claims = {
        "type": "account",
        "limits": limits | jetstream,
        "default_permissions": {"pub": {}, "sub": {}},
        "revocations": dict(revocations),
        "signing_keys": [
            *signers,
            *({"kind": "user_scope", "key": key, "role": "device", "template": template} for key in device_signers),
        ],
    }
    return _mint(operator_signer, account, "VPP", claims, now_s)


def system_account_jwt(operator_signer: Nkey, system_account: str, signer: str, *, now_s: int) -> str:
    """The broker's own account. It must not carry JetStream limits: the broker then refuses to start."""
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _NO_LIMIT)
    claims = {
        "type": "account",
        "limits": limits | {"wildcards": True},
        "default_permissions": {"pub": {}, "sub": {}},
        "signing_keys": [signer],
    }
    return _mint(operator_signer, system_account, "SYS", claims, now_s)


def site_jwt(
    signer: Nkey,
    account: str,
    site: str,
    groups: Sequence[str],
    user_public_key: str,
    *,
    behind: Sequence[str] = (),
    now_s: int,
    expires_s: int,
) -> str:
    """A site's credentials: what they allow is the template in `account_jwt`, filled in from name and tags.

    behind: sites whose telemetry it sends as a concentrator: it may then speak under its own name in their partitions.
    Raises ValueError for a name that the broker would read as a wildcard or as several tokens, and for a public key
    that is not a user's. A scoped user's JWT must carry no permission or limit of its own, or the broker refuses it.
    """
    subjects.check_name(site, "site")
    places = dict.fromkeys(subjects.partition(one) for one in (site, *behind))
    tags = [
        *(f"pt:{place}.{site}" for place in places),
        *(f"grp:{subjects.check_name(group, 'group')}" for group in groups),
    ]
    claims = {"type": "user", "issuer_account": account, "tags": tags}
    return _mint(signer, check_user_public_key(user_public_key), site, claims, now_s, expires_s)


def system_jwt(signer: Nkey, system_account: str, user_public_key: str, *, now_s: int, expires_s: int) -> str:
    """The coordinator at the broker's own account, to hand it a new account JWT and for nothing else."""
    rights = {"pub": {"allow": [CLAIMS_UPDATE]}, "sub": {"allow": ["_INBOX.>"]}}
    claims = _unlimited(system_account) | rights
    return _mint(signer, check_user_public_key(user_public_key), "coordinator-accounts", claims, now_s, expires_s)


def backend_jwt(signer: Nkey, account: str, user_public_key: str, *, now_s: int) -> str:
    """The coordinator's own credentials, free inside the account.

    No expiry: the account's signing key, which could mint another, lies beside the user's.
    """
    return _mint(signer, check_user_public_key(user_public_key), "coordinator", _unlimited(account), now_s)


def credentials_text(jwt: str, seed: bytes) -> str:
    """JWT and seed in the form NATS clients read (a ".creds" file)."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed.decode('ascii')}\n------END USER NKEY SEED------\n"
    )


def _unlimited(account: str) -> dict[str, Any]:
    limits = dict.fromkeys(("subs", "data", "payload"), _NO_LIMIT)
    return {"type": "user", "issuer_account": account} | limits


def _mint(issuer: Nkey, subject: str, name: str, nats: dict[str, Any], now_s: int, expires_s: int | None = None) -> str:
    claims: dict[str, Any] = {
        "iat": now_s,
        "iss": issuer.public,
        "sub": subject,
        "name": name,
        "nats": nats | {"version": 2},
    }
    if expires_s is not None:
        claims["exp"] = expires_s
    claims["jti"] = base64.b32encode(hashlib.sha256(msgspec.json.encode(claims)).digest()).rstrip(b"=").decode()
    signed = _HEADER + b"." + _b64(msgspec.json.encode(claims))
    return (signed + b"." + _b64(issuer.sign(signed))).decode()


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
