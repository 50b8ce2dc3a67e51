"""`vpp-cloud` as a person runs it: real processes, real folders, every refusal one line and exit code 2."""

import asyncio
import json
import os
import signal
import sqlite3
import ssl
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from cryptography import x509

from cloud.data_folder import VERSION
from cloud.gateway.ports import listening_socket
from cloud.gateway.testing import HOST, gone, new_agent
from cloud.model.records import (
    AwardRecord,
    AwardShare,
    MarketSession,
    OfferRecord,
    SessionStage,
    Settlement,
    SettlementLine,
)
from cloud.store.ledger import Ledger
from protos.vpp.v1 import site_pb2_grpc

DEADLINE_S = 60
COMMAND = (sys.executable, "-m", "cloud.cli")


@dataclass
class Outcome:
    code: int
    out: str
    err: str


async def command(*arguments: str | Path) -> Outcome:
    """Run a command to its end."""
    process = await start(*arguments)
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())


async def start(*arguments: str | Path) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*COMMAND, *map(str, arguments), stdout=pipe, stderr=pipe)


def assert_refused(outcome: Outcome, *parts: str) -> None:
    """One line for a person, exit code 2, and no traceback."""
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    (line,) = outcome.err.strip().splitlines()
    assert line.startswith("vpp-cloud: ")
    for part in parts:
        assert part in line


@asynccontextmanager
async def serving(
    data: Path, *arguments: str | Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """A coordinator that serves, and what its run.json says. Ends it, if the test did not."""
    process = await start("run", "--data", data, *arguments)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            line = (await process.stdout.readline()).decode()
        if not line.startswith("console: http"):
            _, err = await process.communicate()
            raise AssertionError(f"it does not serve: {line}{err.decode()}")
        yield process, json.loads((data / "run.json").read_text())
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_S):
                await process.communicate()


async def test_console_speaks_tls_by_the_coordinators_own_root_and_follows_a_rotation(tmp_path: Path) -> None:
    data = tmp_path / "cloud"
    async with serving(data) as (_, run):
        host, port = run["console"].removeprefix("https://").rsplit(":", 1)

        async def shown() -> bytes:
            trust = ssl.create_default_context(cafile=str(data / "keys" / "ca.pem"))
            _, writer = await asyncio.open_connection(host, int(port), ssl=trust)
            certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return certificate

        before = await shown()
        trust = ssl.create_default_context(cafile=str(data / "keys" / "ca.pem"))
        async with httpx.AsyncClient(base_url=run["console"], verify=trust) as browser:
            answer = await browser.get("/log-in")
            assert (answer.status_code, "Strict-Transport-Security" in answer.headers) == (200, True)
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient() as browser:
                await browser.get(f"http://{host}:{port}/log-in")
        assert (await command("keys", "rotate", "server", "--data", data)).code == 0
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if await shown() != before:
                    return
                await asyncio.sleep(0.1)


async def test_plain_console_is_refused_where_others_could_reach_it(tmp_path: Path) -> None:
    config = tmp_path / "coordinator.toml"
    config.write_text('[listen]\nhost = "0.0.0.0"\npublic_host = "vpp.example.org"\n')
    flag = ("run", "--data", tmp_path / "cloud", "--config", config, "--insecure-loopback-only")
    assert_refused(await command(*flag), "--insecure-loopback-only: is refused on 0.0.0.0", "passwords")
    config.write_text(config.read_text() + "[console]\ninsecure_loopback_only = true\n")
    assert_refused(await command(*flag[:-1]), "$.console.insecure_loopback_only: is refused on 0.0.0.0")


async def test_run_stops_in_order_and_comes_back_on_the_same_ports(tmp_path: Path) -> None:
    data = tmp_path / "cloud"
    async with serving(data) as (process, first):
        assert first["pid"] == process.pid
        for address in (first["enrolment"], first["site_service"], first["broker"].removeprefix("tls://")):
            host, port = address.rsplit(":", 1)
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err
    assert not (data / "run.json").exists()
    await gone(first["broker_pid"], DEADLINE_S)
    async with serving(data) as (_, second):
        kept = ("enrolment", "site_service", "broker", "console")
        assert [second[key] for key in kept] == [first[key] for key in kept]


async def test_killed_coordinator_leaves_no_broker_and_is_followed_by_another(tmp_path: Path) -> None:
    data = tmp_path / "cloud"
    async with serving(data) as (process, first):
        process.kill()
        await gone(first["broker_pid"], DEADLINE_S)
        await process.communicate()
    async with serving(data) as (_, second):
        assert second["broker"] == first["broker"]
        assert second["broker_pid"] != first["broker_pid"]


async def test_second_signal_ends_it_at_once_and_the_broker_with_it(tmp_path: Path) -> None:
    """The first signal waits for a broker that does not answer; the second waits for nobody."""
    async with serving(tmp_path) as (process, run):
        os.kill(run["broker_pid"], signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            while b"cloud.coordinator: stops" not in (line := await process.stderr.readline()):
                assert line, "it ended"
            process.send_signal(signal.SIGINT)
            await process.communicate()
        await gone(run["broker_pid"], DEADLINE_S)
    assert process.returncode == 1


async def test_broker_that_is_killed_comes_back_under_the_coordinator(tmp_path: Path) -> None:
    async with serving(tmp_path) as (process, first):
        os.kill(first["broker_pid"], signal.SIGKILL)
        assert process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            while b"broker is back" not in (line := await process.stderr.readline()):
                assert line, "it ended"
        run = json.loads((tmp_path / "run.json").read_text())
        assert run["broker_pid"] != first["broker_pid"]
        assert run["broker"] == first["broker"]


async def test_second_coordinator_on_a_folder_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert_refused(await command("run", "--data", tmp_path), str(tmp_path), "another coordinator runs on it")


@pytest.mark.parametrize("key", ["enrolment_port", "site_port", "broker_port", "console_port"])
async def test_port_in_use_is_refused_naming_port_and_key(tmp_path: Path, key: str) -> None:
    config = tmp_path / "coordinator.toml"
    with listening_socket(HOST, 0) as taken:
        port = taken.getsockname()[1]
        config.write_text(f"[listen]\n{key} = {port}\n")
        outcome = await command("run", "--data", tmp_path / "cloud", "--config", config)
    assert_refused(outcome, f"port {port}", f"listen.{key}", "is in use")


async def test_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    newer = str(VERSION + 1)
    (tmp_path / "version").write_text(f"{newer}\n")
    for arguments in (["run"], ["site", "list"], ["settlement", "show"]):
        assert_refused(await command(*arguments, "--data", tmp_path), str(tmp_path), "newer version", f"data {newer}")


async def test_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.db").close()
    (tmp_path / "version").write_text("1\n")
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert_refused(await command("run", "--data", tmp_path), "ledger.db", "newer version")


async def test_folder_that_is_not_a_coordinators_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    assert_refused(await command("run", "--data", tmp_path), str(tmp_path), "neither empty nor a coordinator's")
    assert_refused(await command("site", "list", "--data", tmp_path), "vpp-cloud run")


async def test_unknown_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    config = tmp_path / "coordinator.toml"
    config.write_text("[listen]\nbroker_prt = 4222\n")
    outcome = await command("run", "--data", tmp_path / "cloud", "--config", config)
    assert_refused(outcome, str(config), "$.listen.broker_prt", "did you mean broker_port?")
    assert not (tmp_path / "cloud").exists()


async def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass
    (tmp_path / "keys" / "online.sealed").chmod(0o644)
    assert_refused(await command("run", "--data", tmp_path), "online.sealed", "chmod 600")


async def test_site_add_gives_a_claim_that_enrols_while_the_coordinator_runs(tmp_path: Path) -> None:
    data, claim_file = tmp_path / "cloud", tmp_path / "home-01.claim.toml"
    async with serving(data):
        added = await command(
            *("site", "add", "home-01", "--data", data, "--group", "fast", "--group", "north"),
            *("--claim-file", claim_file, "--expires-hours", "1"),
        )
        assert added.code == 0, added.err
        claim = tomllib.loads(claim_file.read_text())
        assert (claim_file.stat().st_mode & 0o777, claim["site"]) == (0o600, "home-01")
        trust = grpc.ssl_channel_credentials(claim["ca_certificates"].encode())
        async with grpc.aio.secure_channel(claim["enrolment"], trust) as channel:
            stub = site_pb2_grpc.EnrolmentStub(channel)  # type: ignore[no-untyped-call]
            credentials = await stub.Enrol(new_agent().enrol(claim["token"]), timeout=DEADLINE_S)
        listed = await command("site", "list", "--data", data)
    audited = await command("audit", "verify", "--data", data)
    with Ledger(data / "ledger.db") as ledger:
        last, signed = ledger.last_audit_entry(), ledger.last_audit_checkpoint()
    assert audited.code == 0, audited.out + audited.err
    assert last is not None
    assert signed is not None
    assert (last.action, signed.number) == ("claim.used", last.number)  # signed at the orderly stop
    certificate = x509.load_pem_x509_certificate(credentials.certificate)
    assert certificate.subject.rfc4514_string() == "CN=home-01"
    assert listed.code == 0
    row = listed.out.splitlines()[1].split()
    assert row[:3] == ["0", "home-01", "fast,north"]
    assert row[3].startswith(str(datetime.now(UTC).year))


async def test_site_add_works_while_no_coordinator_runs_and_tells_every_mistake(tmp_path: Path) -> None:
    data = tmp_path / "cloud"
    async with serving(data) as (_, run):
        pass
    claim_file = tmp_path / "claim.toml"

    async def add(site: str, *more: str, to: Path = claim_file) -> Outcome:
        return await command("site", "add", site, "--data", data, "--claim-file", to, *more)

    assert (await add("home-01")).code == 0
    assert tomllib.loads(claim_file.read_text())["enrolment"] == run["enrolment"]
    assert_refused(await add("home-02"), str(claim_file), "exists")
    other = tmp_path / "other.toml"
    assert_refused(await add("home-01", to=other), "home-01", "exists already")
    assert_refused(await add("home.02", to=other), "home.02")
    assert_refused(await add("home-02", "--group", "*", to=other), "group '*'")
    assert_refused(await add("home-02", to=tmp_path / "none" / "claim.toml"), "cannot be written")
    for hours in ("two", "-1", "nan"):
        refused = await add("home-02", "--expires-hours", hours, to=other)
        assert refused.code == 2
        assert f"--expires-hours: '{hours}': give more than 0" in refused.err
    assert not other.exists()
    again = await command("site", "claim", "home-01", "--data", data, "--claim-file", other)
    assert again.code == 0
    tokens = {tomllib.loads(path.read_text())["token"] for path in (claim_file, other)}
    assert len(tokens) == 2
    third = tmp_path / "third.toml"
    refused = await command("site", "claim", "home-09", "--data", data, "--claim-file", third)
    assert_refused(refused, "home-09", "unknown")


async def test_site_add_without_a_coordinator_ever_run_says_what_to_do(tmp_path: Path) -> None:
    claim_file = tmp_path / "claim.toml"
    outcome = await command("site", "add", "home-01", "--data", tmp_path / "cloud", "--claim-file", claim_file)
    assert_refused(outcome, "not a coordinator's data folder", "vpp-cloud run")


async def test_history_import_tells_file_and_row(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("1\n")
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_site("home-01", (), 1)
    past = tmp_path / "past.csv"
    past.write_text(
        "utc_start,interval_s,load_wh,pv_wh\n2026-11-01T00:00:00Z,900,100,0\n2026-11-01T00:15:00Z,900,80,5\n"
    )
    load = ("history", "import", "--data", tmp_path, "--site")
    done = await command(*load, "home-01", past)
    assert (done.code, "imported 2 intervals" in done.out) == (0, True)
    assert_refused(await command(*load, "home-02", past), "home-02", "vpp-cloud site add")
    past.write_text("utc_start,interval_s,load_wh,pv_wh\n2026-11-02T00:00:00Z,900,-1,0\n")
    assert_refused(await command(*load, "home-01", past), str(past), "row 2")


async def test_settlement_show_prints_what_the_ledger_holds(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("1\n")
    empty = await command("settlement", "show", "--data", tmp_path)
    assert (empty.code, empty.out) == (0, "nothing is settled yet\n")
    with Ledger(tmp_path / "ledger.db") as ledger:
        settle(ledger)
    shown = await command("settlement", "show", "--data", tmp_path)
    assert shown.code == 0
    assert "award a1: ffr by ercot-ffr, 3000 W" in shown.out
    assert shown.out.splitlines()[-1].split() == ["sum", "1.50", "-0.25", "1.25"]
    told = json.loads((await command("settlement", "show", "--data", tmp_path, "--json")).out)
    assert told[0]["settlement"]["total_amount"] == "1.25"
    assert [line["site"] for line in told[0]["lines"]] == ["home-01"]


def settle(ledger: Ledger) -> None:
    """One award of one site, settled."""
    ledger.add_site("home-01", (), 1)
    award = AwardRecord(
        award_id="a1",
        session_id="s",
        offer_id="o",
        product="ffr",
        service_id="ercot-ffr",
        service_toml="",
        group="fast",
        power_w=3000,
        clearing_price_per_mw_h=Decimal("12.50"),
        currency="USD",
        delivery_start_ms=1_700_000_000_000,
        delivery_end_ms=1_700_003_600_000,
    )
    amounts = {"capacity_amount": Decimal("1.50"), "energy_amount": Decimal("-0.25"), "total_amount": Decimal("1.25")}
    line = SettlementLine(
        award_id="a1",
        site="home-01",
        contracted_w=3000,
        capacity_wh=3000,
        performance_error=0.01,
        performance_factor=Decimal("1.00"),
        delivered=True,
        samples=36_000,
        samples_missing=0,
        energy_wh=120,
        **amounts,
    )
    ledger.put_market_session(
        MarketSession(
            session_id="s",
            gate_closure_ms=1,
            delivery_start_ms=award.delivery_start_ms,
            delivery_end_ms=award.delivery_end_ms,
            stage=SessionStage.ARMED,
        )
    )
    ledger.put_offer(
        OfferRecord(
            offer_id="o",
            session_id="s",
            product="ffr",
            service_id="ercot-ffr",
            group="fast",
            power_w=3000,
            price_per_mw_h=Decimal("5.00"),
            currency="USD",
            created_ms=1,
        )
    )
    ledger.put_award(award, [AwardShare(award_id="a1", site="home-01", contracted_w=3000)])
    ledger.add_settlement(Settlement(award_id="a1", settled_ms=1, currency="USD", **amounts), [line])


async def test_version_is_the_distributions() -> None:
    outcome = await command("--version")
    assert (outcome.code, outcome.out.split()[0]) == (0, "vpp-cloud")
