"""A ledger moves while it is used: to PostgreSQL and back, whole or not at all."""

import threading
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from cloud.commands import registry
from cloud.data_folder import DataFolder
from cloud.gateway.testing import PASSPHRASE, utc_now
from cloud.identity.audit import verify
from cloud.identity.keyring import open_keyring
from cloud.model.records import EventRecord, Severity
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from cloud.store.moves import move
from cloud.store.testing import PostgresServer

SITES = 40
EVENT = EventRecord(site=None, event_id="", at_ms=1, severity=Severity.INFO, code="a.b", text="Ωμέγα 'x' ? :y %s")


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """A data folder whose ledger has something in most tables."""
    folder = DataFolder(tmp_path / "cloud")
    with folder.owned():
        keyring = open_keyring(folder.keys, ("127.0.0.1",), now=utc_now(), passphrase=PASSPHRASE)
        with Ledger(folder.ledger) as ledger:
            for number in range(SITES):
                ledger.add_site(f"home-{number:02}", ("fast",), now_ms=number)
                ledger.record_intent(
                    f"home-{number:02}", "schedule", valid_from_ms=5, expires_ms=9, body="{}", now_ms=1
                )
                ledger.add_event(replace(EVENT, event_id=str(number)))
            last = ledger.last_audit_entry()
            assert last is not None
            ledger.add_audit_checkpoint(keyring.audit.checkpoint(last, 7))
    return folder


def everything(ledger: Ledger) -> list[object]:
    return [
        ledger.sites(),
        sorted(ledger.intents(), key=lambda intent: intent.site),
        ledger.events(),
        list(ledger.audit_entries()),
        ledger.audit_checkpoints(),
    ]


def test_there_and_back_while_somebody_writes(data: DataFolder, postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with Ledger(data.ledger) as user:
        before = everything(user)
        stop, added = threading.Event(), list[bool]()

        def write() -> None:
            while not stop.is_set() or len(added) < 2:
                added.append(user.add_event(replace(EVENT, event_id=f"live-{len(added)}")))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            said = registry.migrate_ledger(data, url)
            assert "compared row by row" in said
            back = registry.migrate_ledger(data, "sqlite")
            assert str(data.ledger.parent) in back
        finally:
            stop.set()
            writer.join()
        after = everything(user)
        assert [after[0], after[1], after[3], after[4]] == [before[0], before[1], before[3], before[4]]
        live = [event.event_id for event in user.events(limit=100_000) if event.event_id.startswith("live-")]
        assert live == [f"live-{number}" for number in range(len(added))]  # none lost on the way, none twice, in order
    with Ledger(data.ledger) as fresh:
        assert fresh.place.startswith(f"sqlite:{data.ledger.parent}")
        assert fresh.place != f"sqlite:{data.ledger}"  # which somebody might still have had open
        assert fresh.place.removeprefix("sqlite:") in back
        assert everything(fresh) == after
        keyring = open_keyring(data.keys, ("127.0.0.1",), now=utc_now(), passphrase=PASSPHRASE)
        assert verify(fresh.audit_entries(), fresh.audit_checkpoints(), keyring.audit.public_key) == []


def test_who_opens_the_old_place_is_led_to_the_new_one(data: DataFolder, postgres: PostgresServer) -> None:
    url = postgres.new_database()
    registry.migrate_ledger(data, url)
    with Ledger(data.ledger) as ledger, Ledger(url) as same:
        assert ledger.place == url
        ledger.add_site("home-new", (), now_ms=1)
        assert same.site("home-new") is not None
    with pytest.raises(registry.CommandError, match="there already"):
        registry.migrate_ledger(data, url)


def test_a_database_that_is_not_empty_is_refused_and_nothing_is_switched(
    data: DataFolder, postgres: PostgresServer
) -> None:
    url = postgres.new_database()
    with Ledger(url) as other:
        other.add_site("theirs", (), now_ms=1)
    with pytest.raises(LedgerError, match="not empty"):
        registry.migrate_ledger(data, url)
    with Ledger(data.ledger) as ledger:
        assert ledger.place.startswith("sqlite:")
        ledger.add_site("home-new", (), now_ms=1)


def test_a_copy_that_differs_is_not_switched_to(data: DataFolder, postgres: PostgresServer) -> None:
    url = postgres.new_database()
    Ledger(url).close()
    with psycopg.connect(url, autocommit=True) as connection:  # a database that does not keep what it is given
        connection.execute(
            "CREATE FUNCTION round_down() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.created_ms := NEW.created_ms / 2; RETURN NEW; END $$"
        )
        connection.execute("CREATE TRIGGER lossy BEFORE INSERT ON sites FOR EACH ROW EXECUTE FUNCTION round_down()")
    with pytest.raises(LedgerError, match=r"table sites came over .* nothing was switched"):
        registry.migrate_ledger(data, url)
    with Ledger(url) as target:
        assert target.sites() == []


def test_an_audit_log_that_does_not_verify_is_not_switched_to(data: DataFolder, postgres: PostgresServer) -> None:
    with (
        Ledger(data.ledger) as source,
        Ledger(postgres.new_database()) as target,
        pytest.raises(LedgerError, match=r"does not verify there \(entry 3\)"),
    ):
        move(source, target, 1, lambda _: ["entry 3"])
    with Ledger(data.ledger) as ledger:
        assert ledger.place.startswith("sqlite:")
