"""The ledger: what it keeps comes back, what must happen once happens once, also between processes."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from cloud.model.records import (
    Description,
    EventRecord,
    IntentState,
    Severity,
    StreamOffset,
    ThinnedFrames,
)
from cloud.store.database import LedgerDatabase
from cloud.store.engine import Tables
from cloud.store.errors import ClaimError, ClaimProblem, LedgerError
from cloud.store.ledger import LEDGER_FILE, Ledger
from cloud.store.schema import MIGRATIONS

DEADLINE_S = 60
DESCRIPTION = Description(
    agent_version="0.1.0",
    rated_power_w=5000.0,
    max_charge_w=5000.0,
    max_discharge_w=4600.0,
    storage_capacity_wh=13_500.0,
    soc_min=0.1,
    soc_max=0.95,
)


def test_sites_get_dense_slots_and_come_back_whole(ledger: Ledger) -> None:
    for name in ("home-01", "home-02", "home-03"):
        ledger.add_site(name, ("fast", "south"), now_ms=7)
    ledger.set_description("home-02", DESCRIPTION, 1)
    assert [(site.slot, site.site) for site in ledger.sites()] == [(0, "home-01"), (1, "home-02"), (2, "home-03")]
    second = ledger.site("home-02")
    assert second is not None
    assert (second.groups, second.created_ms, second.enrolled_ms) == (("fast", "south"), 7, None)
    assert second.description == DESCRIPTION
    assert second.partition_token.endswith(".home-02")


def test_a_savepoint_that_failed_leaves_the_rest_of_its_transaction(ledger: Ledger) -> None:
    def add_two(*names: str) -> None:
        with ledger.savepoint():
            for name in names:
                ledger.add_site(name, (), now_ms=1)

    with ledger.transaction():
        ledger.add_site("home-01", (), now_ms=1)
        with pytest.raises(LedgerError, match="exists"):
            add_two("home-02", "home-01")
        with ledger.savepoint():
            ledger.add_site("home-03", (), now_ms=1)
    assert [site.site for site in ledger.sites()] == ["home-01", "home-03"]


@pytest.mark.parametrize(
    ("site", "groups", "says"),
    [
        pytest.param("home-01", ("fast",), "exists already", id="taken"),
        pytest.param("Home", (), "a-z 0-9", id="upper case"),
        pytest.param("*", (), "a-z 0-9", id="wildcard"),
        pytest.param("a.b", (), "a-z 0-9", id="two tokens"),
        pytest.param("", (), "a-z 0-9", id="empty"),
        pytest.param("home-09", (">",), "group", id="wildcard group"),
        pytest.param("home-09", ("a", "a"), "twice", id="group twice"),
    ],
)
def test_sites_that_cannot_be_are_refused(ledger: Ledger, site: str, groups: tuple[str, ...], says: str) -> None:
    ledger.add_site("home-01", ("fast",), now_ms=1)
    with pytest.raises(LedgerError, match=says):
        ledger.add_site(site, groups, now_ms=2)
    assert len(ledger.sites()) == 1


def test_a_claim_enrols_once_and_in_time(ledger: Ledger) -> None:
    ledger.add_site("home-01", (), now_ms=1)
    ledger.add_claim("aa", "home-01", expires_ms=100, now_ms=1)
    ledger.add_claim("bb", "home-01", expires_ms=100, now_ms=1)
    assert ledger.use_claim("aa", "keys", 98).enrolled_ms == 98
    assert ledger.use_claim("aa", "keys", 99).enrolled_ms == 98  # asked again
    for token, problem in (("aa", ClaimProblem.USED), ("bb", ClaimProblem.EXPIRED), ("cc", ClaimProblem.UNKNOWN)):
        with pytest.raises(ClaimError) as error:
            ledger.use_claim(token, "other keys", 100)
        assert error.value.problem is problem
    with pytest.raises(LedgerError, match="unknown"):
        ledger.add_claim("dd", "home-99", expires_ms=100, now_ms=1)


def test_intents_are_numbered_by_site_and_kind(ledger: Ledger) -> None:
    ledger.add_site("home-01", (), now_ms=1)
    ledger.add_site("home-02", (), now_ms=1)
    numbers = [
        ledger.record_intent(site, kind, valid_from_ms=5, expires_ms=9, body="{}", now_ms=now).sequence
        for now, (site, kind) in enumerate(
            [("home-01", "schedule"), ("home-01", "schedule"), ("home-01", "service"), ("home-02", "schedule")]
        )
    ]
    assert numbers == [1, 2, 1, 1]
    newest = {(intent.site, intent.kind): intent.sequence for intent in ledger.latest_intents()}
    assert newest == {("home-01", "schedule"): 2, ("home-01", "service"): 1, ("home-02", "schedule"): 1}
    assert [intent.issued_ms for intent in ledger.intents(site="home-01")] == [2, 1, 0]
    for site, kind, expires_ms in (("home-99", "schedule", 9), ("home-01", "other", 9), ("home-01", "schedule", 5)):
        with pytest.raises(LedgerError):
            ledger.record_intent(site, kind, valid_from_ms=5, expires_ms=expires_ms, body="{}", now_ms=1)


@pytest.mark.parametrize(
    ("states", "final", "news"),
    [
        pytest.param(["received", "accepted", "active", "expired"], "expired", [True] * 4, id="in order"),
        pytest.param(["active", "accepted"], "active", [True, False], id="crossed"),
        pytest.param(["expired", "active"], "expired", [True, False], id="over is over"),
        pytest.param(["accepted", "accepted"], "accepted", [True, False], id="twice"),
        pytest.param(["refused"], "refused", [True], id="refused"),
    ],
)
def test_an_intents_state_only_goes_on(ledger: Ledger, states: list[str], final: str, news: list[bool]) -> None:
    ledger.add_site("home-01", (), now_ms=1)
    ledger.record_intent("home-01", "service", valid_from_ms=5, expires_ms=9, body="{}", now_ms=1)
    told = [
        ledger.update_intent_state("home-01", "service", 1, IntentState(state), state, at)
        for at, state in enumerate(states)
    ]
    intent = ledger.intent("home-01", "service", 1)
    assert intent is not None
    assert (intent.state, intent.reason, told) == (final, final, news)
    assert not ledger.update_intent_state("home-01", "service", 2, IntentState.ACTIVE, "", 1)


def event(event_id: str, site: str | None = None, severity: Severity = Severity.INFO) -> EventRecord:
    return EventRecord(site=site, event_id=event_id, at_ms=1, severity=severity, code="a.b", text="text")


def test_events_are_recorded_once_by_site_and_id(ledger: Ledger) -> None:
    assert [ledger.add_event(event("1")), ledger.add_event(event("1")), ledger.add_event(event("1", "home-01"))] == [
        True,
        False,
        True,
    ]
    assert not ledger.add_event(event("1", "home-01"))
    ledger.add_event(event("2", "home-01", Severity.ALARM))
    assert [(one.number, one.site, one.event_id) for one in ledger.events()] == [
        (1, None, "1"),
        (2, "home-01", "1"),
        (3, "home-01", "2"),
    ]
    assert [one.number for one in ledger.events(limit=2)] == [2, 3]
    assert [one.number for one in ledger.events(after=1, limit=1)] == [2]
    assert [one.number for one in ledger.events(site="home-01")] == [2, 3]
    assert [one.number for one in ledger.events(least=Severity.WARNING)] == [3]


def test_a_transaction_keeps_all_or_nothing(ledger: Ledger) -> None:
    def half() -> None:
        with ledger.transaction():
            ledger.add_event(event("1"))
            ledger.set_stream_offset(StreamOffset(stream="S", created_ns=1, last_sequence=5))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert (ledger.events(), ledger.stream_offset("S")) == ([], None)
    with ledger.transaction():
        ledger.add_event(event("1"))
        ledger.set_stream_offset(StreamOffset(stream="S", created_ns=1, last_sequence=5))
        ledger.set_stream_offset(StreamOffset(stream="S", created_ns=1, last_sequence=6))
    assert len(ledger.events()) == 1
    assert ledger.stream_offset("S") == StreamOffset(stream="S", created_ns=1, last_sequence=6)


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    ledger.add_site("home-01", (), now_ms=1)
    sequences: list[int] = []

    def issue() -> None:
        for _ in range(25):
            sequences.append(
                ledger.record_intent("home-01", "schedule", valid_from_ms=1, expires_ms=2, body="{}", now_ms=1).sequence
            )

    threads = [threading.Thread(target=issue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(sequences) == list(range(1, 101))


OPEN = """
import os
import sys
from pathlib import Path
from cloud.store.errors import ClaimError
from cloud.store.ledger import Ledger

where = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
"""


def test_the_audit_log_takes_neither_change_nor_deletion(ledger: Ledger) -> None:
    ledger.add_site("home-01", (), now_ms=1)
    for sql in ("UPDATE audit_entries SET actor = 'nobody'", "DELETE FROM audit_entries"):
        with pytest.raises((sqlite3.Error, psycopg.Error), match="append-only"):
            ledger._execute(sql)
    assert [entry.actor for entry in ledger.audit_entries()] == ["coordinator"]


CLAIM_ALL = """
with Ledger(where) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(200):
        try:
            ledger.use_claim(f"token-{number}", str(os.getpid()), 5)
        except ClaimError as error:
            assert error.problem == "used", error
        else:
            print(number)
"""


def test_two_processes_never_use_the_same_claim(where: Path | str, ledger: Ledger) -> None:
    for number in range(200):
        ledger.add_site(f"home-{number}", (), now_ms=1)
        ledger.add_claim(f"token-{number}", f"home-{number}", expires_ms=10, now_ms=1)
    command = [sys.executable, "-c", OPEN + CLAIM_ALL, str(where)]
    rivals = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for rival in rivals:
            assert rival.stdout is not None
            assert rival.stdout.readline() == "ready\n"
        won = [rival.communicate("go\n", timeout=DEADLINE_S)[0].split() for rival in rivals]
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait(DEADLINE_S)
    assert [rival.returncode for rival in rivals] == [0, 0]
    assert sorted(map(int, won[0] + won[1])) == list(range(200))


ADD = """
with Ledger(where) as ledger:
    ledger.add_site(sys.argv[2], (), now_ms=1)
"""


def test_processes_that_open_a_new_ledger_at_once_make_it_once(where: Path | str) -> None:
    openers = [
        subprocess.Popen([sys.executable, "-c", OPEN + ADD, str(where), f"home-{number}"]) for number in range(4)
    ]
    assert [opener.wait(DEADLINE_S) for opener in openers] == [0, 0, 0, 0]
    with Ledger(where) as ledger:
        assert sorted(site.slot for site in ledger.sites()) == [0, 1, 2, 3]


def test_a_ledger_of_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(LedgerError, match="newer version") as error:
        Ledger(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_ledger_of_an_older_version_is_brought_up_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    with Ledger(path) as ledger:
        ledger.add_site("home-01", ("fast",), now_ms=1)

    def add_comment(db: Tables) -> None:
        db.table("sites").add_column("comment", str)

    LedgerDatabase(path, [*MIGRATIONS, add_comment]).close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT site, comment FROM sites").fetchall() == [("home-01", None)]
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    connection.close()


def test_a_claim_used_before_the_ledger_kept_its_keys_stays_used(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    LedgerDatabase(path, MIGRATIONS[:1]).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO sites VALUES ('home-01', 0, '[]', 1, 5, NULL)")
        connection.execute("INSERT INTO claims VALUES ('aa', 'home-01', 1, 100, 5), ('bb', 'home-01', 1, 100, NULL)")
    connection.close()
    with Ledger(path) as ledger:
        with pytest.raises(ClaimError) as error:
            ledger.use_claim("aa", "keys", 6)
        assert error.value.problem is ClaimProblem.USED
        assert ledger.use_claim("bb", "keys", 7).enrolled_ms == 7


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    Ledger(path).close()

    def half(db: Tables) -> None:
        db.execute("CREATE TABLE half (a INTEGER)")
        raise sqlite3.OperationalError("no more")

    with pytest.raises(LedgerError, match="no more"):
        LedgerDatabase(path, [*MIGRATIONS, half])
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    connection.close()
    Ledger(path).close()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be read as one" * 20, None])
def test_another_file_is_no_ledger(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / LEDGER_FILE
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE foreign_one (a)")
        connection.close()
    else:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match=str(path)):
        Ledger(path)


def test_a_folder_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path / "file" / LEDGER_FILE)


def test_only_a_damaged_ledger_asks_for_its_backup(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no ledger" * 1000)
    with pytest.raises(LedgerError, match="restore it from a backup"):
        LedgerDatabase(damaged)

    def fill(database: Tables) -> None:
        database.execute("PRAGMA max_page_count = 2")  # as SQLite finds a full disk
        for number in range(10):
            database.execute(f"CREATE TABLE table_{number} (text TEXT)")

    with pytest.raises(LedgerError, match=r"full\): make room on its disk"):
        LedgerDatabase(tmp_path / "full.db", [fill])


def test_merged_frames_are_told_in_order_and_summed_by_slot(ledger: Ledger) -> None:
    for site in ("home-01", "home-02"):
        ledger.add_site(site, (), now_ms=1)
    for number, site in enumerate(("home-02", "home-01", "home-02")):
        runs = ((10 * number + 1, 10 * number + 9),)
        ledger.add_thinned(ThinnedFrames(site=site, event_id=str(number), at_ms=1, frames=9, runs=runs))
    found = ledger.thinned_after(0)
    assert [(slot, runs) for _, slot, runs in found] == [(1, [(1, 9)]), (0, [(11, 19)]), (1, [(21, 29)])]
    assert [number for number, _, _ in found] == sorted(number for number, _, _ in found)
    assert ledger.thinned_after(found[1][0], limit=1) == found[2:]
    assert ledger.thinned_by_slot() == {0: 9, 1: 18}
