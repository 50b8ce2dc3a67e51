"""What a site's credentials allow at a real broker, and what not: the table of rights, line by line."""

import asyncio
import base64
import json
import ssl
from urllib.parse import urlsplit

import nats.errors
import pytest
from nats.aio.client import Client, RawCredentials

from cloud.gateway.broker import Broker
from cloud.gateway.testing import SiteConnect, utc_now
from cloud.identity import jwt, nkey
from cloud.identity.keyring import Keyring
from protos import subjects

TOKEN = subjects.partition_token("s1")
OTHER = subjects.partition_token("s2")


async def test_nobody_connects_without_credentials(broker: Broker, trust: ssl.SSLContext) -> None:
    nc = Client()
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await asyncio.wait_for(nc.connect(broker.url, tls=trust, allow_reconnect=False, max_reconnect_attempts=0), 10)
    await nc.close()


async def test_broker_answers_nothing_in_the_clear(broker: Broker) -> None:
    address = urlsplit(broker.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    async with asyncio.timeout(10):
        greeting = json.loads((await reader.readline()).removeprefix(b"INFO "))
        writer.write(b'CONNECT {"verbose":true}\r\nPING\r\n')
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
    writer.close()
    assert greeting["tls_required"] is True
    assert b"PONG" not in answer
    assert b"+OK" not in answer


@pytest.mark.parametrize("subject", [subjects.telemetry(TOKEN), subjects.event(TOKEN), subjects.acknowledgement(TOKEN)])
async def test_site_publishes_its_own_with_acknowledgement(
    backend: Client, connect_site: SiteConnect, subject: str
) -> None:
    site = await connect_site("s1", ("g1",))
    stored = await site.nc.jetstream(timeout=5).publish(subject, b"frame")
    kept = await backend.jetstream(timeout=5).get_last_msg(stored.stream, subject)
    assert (kept.seq, kept.data) == (stored.seq, b"frame")


@pytest.mark.parametrize("kind", subjects.INTENT_KINDS)
async def test_site_reads_its_latest_intent(backend: Client, connect_site: SiteConnect, kind: str) -> None:
    for data in (b"older", b"newer"):
        await backend.jetstream(timeout=5).publish(subjects.intent("s1", kind), data)
    site = await connect_site("s1")
    answer = await site.nc.request(subjects.latest_intent("s1", kind), b"", timeout=5)
    assert answer.data == b"newer"


@pytest.mark.parametrize(
    "subject",
    ["vpp.intent.s1.*", "vpp.intent.s1.schedule", "vpp.group.g1.>", "vpp.group.g2.price", "_INBOX_s1.>"],
)
async def test_site_hears_its_own(backend: Client, connect_site: SiteConnect, subject: str) -> None:
    site = await connect_site("s1", ("g1", "g2"))
    heard = await site.nc.subscribe(subject)
    assert await site.objections() == []
    published = subject.replace("*", "service").replace(">", "price")
    await backend.publish(published, b"hello")
    assert (await heard.next_msg(5)).data == b"hello"


@pytest.mark.parametrize(
    "subject",
    [
        subjects.telemetry(OTHER),
        subjects.telemetry(f"{(subjects.partition('s1') + 1) % 64}.s1"),  # its own, in a partition of its choice
        subjects.event(OTHER),
        subjects.acknowledgement(OTHER),
        "vpp.intent.s1.schedule",
        "vpp.intent.s2.schedule",
        "vpp.group.g1.price",
        subjects.latest_intent("s2", "schedule"),
        "$JS.API.DIRECT.GET.INTENT",
        "$JS.API.STREAM.MSG.GET.INTENT",
        "$JS.API.STREAM.INFO.TEL_0",
        "$JS.API.STREAM.DELETE.TEL_0",
        "$JS.API.STREAM.PURGE.INTENT",
        "$JS.API.CONSUMER.CREATE.TEL_0",
        "$JS.API.INFO",
        "$SYS.REQ.SERVER.PING",
    ],
)
async def test_site_cannot_publish(backend: Client, connect_site: SiteConnect, subject: str) -> None:
    site = await connect_site("s1", ("g1",))
    await site.nc.publish(subject, b"", reply="_INBOX_s1.x")
    (objection,) = await site.objections()
    assert "permissions violation for publish" in objection.lower()


@pytest.mark.parametrize(
    "subject",
    [
        "vpp.intent.s2.*",
        "vpp.intent.*.schedule",
        "vpp.tel.>",
        "vpp.group.g3.>",
        "vpp.group.>",
        "vpp.>",
        ">",
        "_INBOX.>",
        "_INBOX_s2.>",
        "$JS.EVENT.>",
        "$SYS.>",
    ],
)
async def test_site_cannot_listen(backend: Client, connect_site: SiteConnect, subject: str) -> None:
    site = await connect_site("s1", ("g1",))
    await site.nc.subscribe(subject)
    (objection,) = await site.objections()
    assert "permissions violation for subscription" in objection.lower()


async def test_credentials_signed_by_a_stranger_are_refused(connect_site: SiteConnect) -> None:
    """They say everything right, but the account does not name the key that signed them."""
    stranger = nkey.from_seed(nkey.make_seed(nkey.ACCOUNT), nkey.ACCOUNT)
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await connect_site("s1", signer=stranger)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"pub": {"allow": [">"]}, "sub": {"allow": [">"]}}, id="all subjects"),
        pytest.param({"subs": -1, "data": -1, "payload": -1}, id="limits"),
        pytest.param({"bearer_token": True}, id="without a signature"),
    ],
)
async def test_stolen_devices_key_mints_no_more_than_a_sites_rights(
    broker: Broker, keyring: Keyring, trust: ssl.SSLContext, more: dict[str, object]
) -> None:
    """A scoped user with any permission or limit of its own is not let in at all."""
    user = nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER)
    header = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"ed25519-nkey"}').rstrip(b"=")
    now_s = int(utc_now().timestamp())
    claims: dict[str, object] = {"iss": keyring.devices.public, "sub": user.public, "name": "s1", "jti": "x"}
    claims |= {"iat": now_s, "exp": now_s + 600}
    claims["nats"] = {"type": "user", "version": 2, "issuer_account": keyring.account, "tags": ["pt:1.s1"], **more}
    body = header + b"." + base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    token = (body + b"." + base64.urlsafe_b64encode(keyring.devices.sign(body)).rstrip(b"=")).decode()
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await Client().connect(
            broker.url,
            tls=trust,
            user_credentials=RawCredentials(jwt.credentials_text(token, user.seed)),
            allow_reconnect=False,
        )
