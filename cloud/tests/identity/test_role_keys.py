"""A role's share of the keys: what it holds, what it refuses by name, and processes that run on it."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import msgspec
import pytest

from cloud.cli import main
from cloud.config import CoordinatorConfig, LedgerConfig, MessagingConfig
from cloud.coordinator import Coordinator
from cloud.data_folder import DataFolder
from cloud.gateway.link import Link, own_login
from cloud.gateway.testing import HOST, new_agent, utc_now
from cloud.identity.key_store import KeyringError, Stored, read_online
from cloud.identity.keyring import open_keyring
from cloud.identity.role_keys import NEEDED
from cloud.model.role import Role
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from cloud.store.testing import PostgresServer
from protos.vpp.v1 import intent_pb2, site_pb2, site_pb2_grpc

DEADLINE_S = 30


@pytest.fixture
def whole(tmp_path: Path) -> DataFolder:
    data = DataFolder(tmp_path / "cloud")
    assert main(["init", "--data", str(data.path)]) == 0
    return data


def exported(whole: DataFolder, *roles: Role, host: str = HOST) -> DataFolder:
    share = DataFolder(whole.path.with_name("-".join(roles)))
    names = [word for role in roles for word in ("--role", role)]
    assert main(["keys", "export", *names, "--host", host, str(share.path), "--data", str(whole.path)]) == 0
    return share


def secrets_of(data: DataFolder) -> set[str]:
    keys = read_online(data.keys, data.passphrase())
    stored = {name: getattr(keys, name) for name in msgspec.structs.asdict(keys)}
    return {name for name, key in stored.items() if isinstance(key, Stored) and key.secret}


SIGNING = {
    "issuing",
    "operator_signer",
    "system_signer",
    "account_signer",
    "devices",
    "devices_next",
    "command",
    "audit",
}


@pytest.mark.parametrize("role", [Role.INGEST, Role.CONSOLE])
def test_who_only_reads_and_shows_has_no_key_that_signs(whole: DataFolder, role: Role) -> None:
    share = exported(whole, role)
    assert not secrets_of(share) & SIGNING
    assert not (share.keys / "root.sealed").exists()
    assert (share.keys / "people.key").exists() == (role is Role.CONSOLE)
    assert share.passphrase() != whole.passphrase()
    keyring = open_keyring(share.keys, None, now=utc_now(), passphrase=share.passphrase())
    full = open_keyring(whole.keys, None, now=utc_now(), passphrase=whole.passphrase())
    assert keyring.command_keys == full.command_keys
    assert keyring.device_signers == full.device_signers
    for act in (
        lambda: keyring.signer.sign(intent_pb2.Intent()),
        lambda: keyring.account_signer.sign(b""),
        lambda: keyring.authority_key,
    ):
        with pytest.raises(KeyringError, match="is not among the keys that this folder was given"):
            act()


@pytest.mark.parametrize("role", tuple(Role))
def test_a_share_has_what_its_role_needs_and_refuses_the_others(
    whole: DataFolder, role: Role, capsys: pytest.CaptureFixture[str]
) -> None:
    share = exported(whole, role)
    assert secrets_of(share) == NEEDED[role] - {"command_next"}
    keyring = open_keyring(share.keys, None, now=utc_now(), passphrase=share.passphrase())
    keyring.check_roles([role])
    other = next(one for one in Role if one is not role)
    with pytest.raises(KeyringError, match=f"has the keys of {role} and not of {other}; export them"):
        keyring.check_roles([role, other])
    for command in (("keys", "rotate", "command"), ("keys", "export", "--role", role, str(share.path) + "-2")):
        capsys.readouterr()
        assert main([*command, "--data", str(share.path)]) == 2
        assert "export" in capsys.readouterr().err


def test_a_certificate_for_other_names_is_refused_with_the_name(whole: DataFolder) -> None:
    share = exported(whole, Role.CONSOLE, host="console.example.org")
    passphrase = share.passphrase()
    open_keyring(share.keys, ["console.example.org", HOST], now=utc_now(), passphrase=passphrase)
    with pytest.raises(KeyringError, match=r"is not for vpp\.example\.org; .*--host vpp\.example\.org"):
        open_keyring(share.keys, ["vpp.example.org"], now=utc_now(), passphrase=passphrase)


@asynccontextmanager
async def running(config: CoordinatorConfig, data: DataFolder, *roles: Role) -> AsyncIterator[dict[str, str]]:
    stop, process = asyncio.Event(), Coordinator(config, data, roles, configured_by="test")
    task = asyncio.create_task(process.run(stop, lambda _: None))
    looking = asyncio.create_task(_until_there(data.run_of([role for role in Role if role in roles])))
    try:
        await asyncio.wait({task, looking}, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield json.loads((await looking).read_text())
    finally:
        looking.cancel()
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)


async def _until_there(path: Path) -> Path:
    while not path.exists():  # noqa: ASYNC110, ASYNC240 (a file)
        await asyncio.sleep(0.05)
    return path


async def test_every_role_runs_on_its_share_alone(whole: DataFolder, postgres: PostgresServer) -> None:
    """One machine a role: broker, coordinator, gateway, ingest, console. A gateway enrols."""
    config = CoordinatorConfig(ledger=LedgerConfig(url=postgres.new_database()))
    shares = {role: exported(whole, role) for role in Role}
    with pytest.raises(LedgerError, match=r"and not the ledger: say where that is with \[ledger\] url"):
        async with running(CoordinatorConfig(), shares[Role.BROKER], Role.BROKER):
            pass
    with pytest.raises(KeyringError, match="has the keys of broker and not of gateway"):
        async with running(config, shares[Role.BROKER], Role.GATEWAY):
            pass
    async with running(config, shares[Role.BROKER], Role.BROKER) as broker:
        config = replace_urls(config, [broker["broker"]])
        async with (
            running(config, shares[Role.COORDINATOR], Role.COORDINATOR),
            running(config, shares[Role.INGEST], Role.INGEST),
            running(config, shares[Role.CONSOLE], Role.CONSOLE) as console,
            running(config, shares[Role.GATEWAY], Role.GATEWAY) as gateway,
        ):
            assert console["console"].startswith("https://")
            claim = whole.path.with_name("home-01.claim.toml")
            at = ("--data", str(shares[Role.GATEWAY].path))
            assert await asyncio.to_thread(main, ["site", "add", "home-01", "--claim-file", str(claim), *at]) == 0
            token = next(line for line in claim.read_text().splitlines() if line.startswith("token")).split('"')[1]
            trust = grpc.ssl_channel_credentials((whole.keys / "ca.pem").read_bytes())
            async with grpc.aio.secure_channel(gateway["enrolment"], trust) as channel:
                stub = site_pb2_grpc.EnrolmentStub(channel)  # type: ignore[no-untyped-call]
                credentials: site_pb2.Credentials = await stub.Enrol(new_agent().enrol(token), timeout=DEADLINE_S)
            assert credentials.site == "home-01"
            share = shares[Role.INGEST]
            keyring = open_keyring(share.keys, None, now=utc_now(), passphrase=share.passphrase())
            link = Link([broker["broker"]], own_login(keyring, utc_now), keyring.authority_file)
            client = await link.connect("test")
            assert await client.jetstream().stream_info("TEL_0")
            await client.close()


def replace_urls(config: CoordinatorConfig, urls: Collection[str]) -> CoordinatorConfig:
    return msgspec.structs.replace(config, messaging=MessagingConfig(urls=tuple(urls)))


def test_a_share_leads_to_the_ledger_where_other_machines_reach_it(whole: DataFolder, postgres: PostgresServer) -> None:
    url = postgres.new_database()
    assert not exported(whole, Role.CONSOLE).ledger.exists()
    assert main(["migrate", "--to", url, "--data", str(whole.path)]) == 0
    share = exported(whole, Role.INGEST)
    with Ledger(share.ledger) as ledger:
        assert ledger.place == url
    exported(whole, Role.INGEST)  # once more
