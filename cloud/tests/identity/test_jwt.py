"""NATS JWTs: signed as the broker checks it, and never for a name it could read as more than one."""

import base64
import json
from typing import Any

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.identity import jwt, nkey

NOW_S = 1_700_000_000
DEVICES = nkey.from_seed(nkey.make_seed(nkey.ACCOUNT), nkey.ACCOUNT)
ACCOUNT = nkey.from_seed(nkey.make_seed(nkey.ACCOUNT), nkey.ACCOUNT).public
USER = nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER).public


def mint(site: str, groups: tuple[str, ...] = (), key: str = USER) -> str:
    return jwt.site_jwt(DEVICES, ACCOUNT, site, groups, key, now_s=NOW_S, expires_s=NOW_S + 60)


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def test_site_credentials_name_site_partition_and_groups() -> None:
    claims = claims_of(mint("s1", ("fast", "droop")))
    expected = 2166136261
    for byte in b"s1":
        expected = (expected ^ byte) * 16777619 % 2**32  # FNV-1a, 32 bit
    assert claims["nats"]["tags"] == [f"pt:{expected % 64}.s1", "grp:fast", "grp:droop"]
    assert (claims["name"], claims["sub"], claims["exp"]) == ("s1", USER, NOW_S + 60)
    assert claims["nats"]["issuer_account"] == ACCOUNT


def test_site_credentials_carry_no_permission_of_their_own() -> None:
    """A scoped user with any permission or limit in its JWT is refused by the broker."""
    assert set(claims_of(mint("s1"))["nats"]) == {"type", "version", "tags", "issuer_account"}


def test_signature_is_the_device_signing_keys() -> None:
    signed, _, signature = mint("s1").rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    assert nkeys.from_seed(DEVICES.seed).verify(signed.encode(), raw)


@pytest.mark.parametrize("name", ["*", ">", "a.b", "a b", "", "S1", "s" * 64, "-a", "é", "s1\n", "{{name()}}"])
def test_names_the_broker_could_read_otherwise_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="site"):
        mint(name)
    with pytest.raises(ValueError, match="group"):
        mint("s1", (name,))


@given(st.text(max_size=80))
def test_no_minted_name_has_a_token_separator_or_wildcard(name: str) -> None:
    try:
        claims = claims_of(mint(name))
    except ValueError:
        return
    assert claims["name"] == name
    assert not set(name) & set(".*> \t\r\n:{}")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ACCOUNT, id="an account's key"),
        pytest.param(USER[:-1] + ("A" if USER[-1] != "A" else "B"), id="checksum"),
        pytest.param(USER[:-1], id="too short"),
        pytest.param("u" + USER[1:], id="lower case"),
        pytest.param("", id="nothing"),
        pytest.param(USER + "=", id="too long"),
        pytest.param("é" * 56, id="not ASCII"),
    ],
)
def test_what_is_not_a_users_public_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="NATS public key"):
        mint("s1", key=key)
