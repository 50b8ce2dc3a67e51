"""A person who can write the ledger's file tampers with the audit log; each way is found and named."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.cli import main
from cloud.commands import registry
from cloud.data_folder import DataFolder
from cloud.gateway.notary import EVERY, Notary
from cloud.gateway.testing import PASSPHRASE
from cloud.identity.audit import AuditSigner, verify
from cloud.identity.keyring import Keyring, open_keyring
from cloud.model.audit import hash_as
from cloud.store.ledger import Ledger

COUNT = 20
SIGNED = 15  # the last checkpoint stands here


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return open_keyring(tmp_path / "keys", ("127.0.0.1",), now=datetime.now(UTC), passphrase=PASSPHRASE)


@pytest.fixture
def data(tmp_path: Path, keyring: Keyring) -> DataFolder:
    """A coordinator's folder with a log of COUNT entries and two checkpoints."""
    (tmp_path / "version").write_text("1\n")
    with Ledger(tmp_path / "ledger.db") as ledger:
        notary = Notary(ledger, keyring.audit, lambda: 1_700_000_000_000)
        for number in range(1, COUNT + 1):
            ledger.audit("test.act", actor="user:ada", subject=f"s{number}", at_ms=number, power_w=number)
            if number in (5, SIGNED):
                assert notary.sign()
    return DataFolder(tmp_path)


@pytest.fixture
def file(data: DataFolder) -> Iterator[sqlite3.Connection]:
    """The ledger's file in the hands of the insider: the table's own guard is taken away first."""
    connection = sqlite3.connect(data.ledger, isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    yield connection
    connection.close()


def found(data: DataFolder, anchor: tuple[int, str] | None = None) -> list[tuple[int, str]]:
    return [(finding.number, finding.what) for finding in registry.verify_audit(data, anchor)[2]]


def renumber(file: sqlite3.Connection, first: int, by: int) -> None:
    """Moves entries from `first` on, without touching their hashes."""
    file.execute("UPDATE audit_entries SET number = -(number + ?) WHERE number >= ?", (by, first))
    file.execute("UPDATE audit_entries SET number = -number WHERE number < 0")


def rewrite_from(file: sqlite3.Connection, data: DataFolder, first: int) -> None:
    """Makes all hashes from `first` on fit their content, as who knows the format would."""
    with Ledger(data.ledger) as ledger:
        entries = list(ledger.audit_entries())
    previous = entries[first - 2].entry_hash
    for entry in entries[first - 1 :]:
        file.execute("UPDATE audit_entries SET previous_hash = ? WHERE number = ?", (previous, entry.number))
        with Ledger(data.ledger) as ledger:
            (fresh,) = [e for e in ledger.audit_entries(entry.number - 1) if e.number == entry.number]
        previous = hash_as(fresh, fresh.number)
        file.execute("UPDATE audit_entries SET entry_hash = ? WHERE number = ?", (previous, entry.number))


def insert(file: sqlite3.Connection, number: int) -> None:
    file.execute(
        "INSERT INTO audit_entries SELECT ?, at_ms, actor, action, 'never-was', detail, previous_hash, entry_hash "
        "FROM audit_entries WHERE number = 1",
        (number,),
    )


def swap(file: sqlite3.Connection) -> None:
    file.execute("UPDATE audit_entries SET number = 99 WHERE number = 7")
    file.execute("UPDATE audit_entries SET number = 7 WHERE number = 9")
    file.execute("UPDATE audit_entries SET number = 9 WHERE number = 99")


def insert_and_renumber(file: sqlite3.Connection) -> None:
    renumber(file, 8, 1)
    insert(file, 8)


def remove_and_renumber(file: sqlite3.Connection) -> None:
    file.execute("DELETE FROM audit_entries WHERE number = 8")
    renumber(file, 9, -1)


def test_untouched_log_verifies(data: DataFolder) -> None:
    entries, checkpoints, findings = registry.verify_audit(data, None)
    assert (entries, checkpoints, findings) == (COUNT, 2, [])


@pytest.mark.parametrize(
    ("column", "value"),
    [("at_ms", 5), ("actor", "user:eve"), ("action", "other"), ("subject", "s9"), ("detail", "{}")],
)
def test_changed_entry_is_named(data: DataFolder, file: sqlite3.Connection, column: str, value: object) -> None:
    file.execute(f"UPDATE audit_entries SET {column} = ? WHERE number = 8", (value,))
    assert found(data) == [(8, "changed")]


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        pytest.param(lambda f: f.execute("DELETE FROM audit_entries WHERE number = 8"), {(8, "removed")}, id="removed"),
        pytest.param(remove_and_renumber, {(8, "removed")}, id="removed and closed up"),
        pytest.param(insert_and_renumber, {(8, "inserted")}, id="inserted"),
        pytest.param(swap, {(7, "reordered"), (8, "reordered")}, id="reordered"),
        pytest.param(
            lambda f: f.execute("DELETE FROM audit_entries WHERE number >= 12"), {(SIGNED, "cut off")}, id="cut off"
        ),
    ],
)
def test_removed_inserted_reordered_entries_are_named(
    data: DataFolder,
    file: sqlite3.Connection,
    tamper: Callable[[sqlite3.Connection], object],
    named: set[tuple[int, str]],
) -> None:
    tamper(file)
    # Where the rest was moved along, the checkpoint behind it no longer finds its entry at its place.
    assert named <= set(found(data)) <= named | {(SIGNED, "rewritten")}


def test_changed_entry_with_a_hash_made_to_fit_is_named(data: DataFolder, file: sqlite3.Connection) -> None:
    file.execute("UPDATE audit_entries SET subject = 'eve' WHERE number = 8")
    with Ledger(data.ledger) as ledger:
        entry = next(ledger.audit_entries(7))
    file.execute("UPDATE audit_entries SET entry_hash = ? WHERE number = 8", (hash_as(entry, 8),))
    assert found(data) == [(8, "changed")]


def test_chain_rewritten_to_its_end_contradicts_the_checkpoint(data: DataFolder, file: sqlite3.Connection) -> None:
    file.execute("UPDATE audit_entries SET subject = 'eve' WHERE number = 8")
    rewrite_from(file, data, 8)
    (finding,) = registry.verify_audit(data, None)[2]
    assert (finding.number, finding.what) == (SIGNED, "rewritten")
    assert "from 6 to it" in finding.text


def test_checkpoint_signed_with_a_key_of_ones_own_is_named(data: DataFolder, file: sqlite3.Connection) -> None:
    file.execute("UPDATE audit_entries SET subject = 'eve' WHERE number = 8")
    rewrite_from(file, data, 8)
    with Ledger(data.ledger) as ledger:
        entry = next(ledger.audit_entries(SIGNED - 1))
        forged = AuditSigner(Ed25519PrivateKey.generate()).checkpoint(entry, 1)
        file.execute("DELETE FROM audit_checkpoints WHERE number = ?", (SIGNED,))
        ledger.add_audit_checkpoint(forged)
    assert found(data) == [(SIGNED, "forged checkpoint")]


def test_end_cut_off_with_its_checkpoint_is_found_by_the_anchor(data: DataFolder, file: sqlite3.Connection) -> None:
    """The one thing that the file alone cannot show."""
    with Ledger(data.ledger) as ledger:
        anchor = next(ledger.audit_entries(SIGNED - 1))
    file.execute("DELETE FROM audit_entries WHERE number > 10")
    file.execute("DELETE FROM audit_checkpoints WHERE number > 10")
    assert found(data) == []
    assert found(data, (anchor.number, anchor.entry_hash)) == [(SIGNED, "cut off")]


def test_table_refuses_updates_and_deletions(data: DataFolder) -> None:
    with sqlite3.connect(data.ledger) as connection:
        for statement in ("UPDATE audit_entries SET actor = 'eve'", "DELETE FROM audit_checkpoints"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    connection.close()


def test_notary_does_not_sign_what_was_tampered_with(
    data: DataFolder, file: sqlite3.Connection, keyring: Keyring
) -> None:
    file.execute("UPDATE audit_entries SET subject = 'eve' WHERE number = 18")
    with Ledger(data.ledger) as ledger:
        assert not Notary(ledger, keyring.audit, lambda: 1).sign()
        (alarm,) = ledger.events()
        assert (alarm.code, alarm.severity) == ("audit.broken", "alarm")
        assert "entry 18" in alarm.text


def test_notary_signs_every_so_many_entries(tmp_path: Path, keyring: Keyring) -> None:
    with Ledger(tmp_path / "other.db") as ledger:
        notary = Notary(ledger, keyring.audit, lambda: 1)
        for number in range(2 * EVERY):
            ledger.audit("test.act", actor="a", subject="s", at_ms=number)
            notary.sign(EVERY)
        assert [checkpoint.number for checkpoint in ledger.audit_checkpoints()] == [EVERY, 2 * EVERY]
        assert verify(ledger.audit_entries(), ledger.audit_checkpoints(), keyring.audit.public_key) == []


def test_commands_verify_and_export(data: DataFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", "--data", str(data.path)]) == 0
    assert capsys.readouterr().out.startswith(f"{COUNT} entries and 2 signed checkpoints: nothing was changed")
    assert main(["audit", "export", "--data", str(data.path)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    entries = [line for line in lines if line["type"] == "entry"]
    assert [entry["number"] for entry in entries] == list(range(1, COUNT + 1))
    assert entries[7]["detail"] == {"power_w": 8}
    assert [line["number"] for line in lines if line["type"] == "checkpoint"] == [5, SIGNED]


def test_command_names_the_entry_and_fails(
    data: DataFolder, file: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    file.execute("UPDATE audit_entries SET actor = 'user:eve' WHERE number = 8")
    assert main(["audit", "verify", "--data", str(data.path)]) == 1
    told = capsys.readouterr()
    assert told.out == "entry 8: its content is not what its hash was made of\n"
    assert "tampered" in told.err
