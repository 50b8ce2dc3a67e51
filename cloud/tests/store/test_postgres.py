"""What is PostgreSQL's own: it goes away, comes back, belongs to somebody else."""

import signal

import psycopg
import pytest

from cloud.store.engine import without_password
from cloud.store.errors import LedgerError, LedgerUnavailable
from cloud.store.ledger import Ledger
from cloud.store.schema import MIGRATIONS
from cloud.store.testing import PostgresServer


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGQUIT], ids=["restarted", "crashed"])
def test_a_server_that_was_away_is_found_again_and_half_a_transaction_is_none(
    postgres: PostgresServer, url: str, stop: signal.Signals
) -> None:
    with Ledger(url) as ledger:
        ledger.add_site("home-01", (), now_ms=1)

        def interrupted() -> None:
            with ledger.transaction():
                ledger.add_site("home-02", (), now_ms=2)
                postgres.stop(stop)
                ledger.add_site("home-03", (), now_ms=3)

        try:
            with pytest.raises(LedgerUnavailable, match="does not answer"):
                interrupted()
            with pytest.raises(LedgerUnavailable):
                ledger.sites()
            with pytest.raises(LedgerUnavailable):
                ledger.add_site("home-04", (), now_ms=4)
        finally:
            postgres.start()
        assert [site.site for site in ledger.sites()] == ["home-01"]
        assert ledger.add_site("home-02", (), now_ms=5).slot == 1


def test_a_database_of_somebody_else_is_left_alone(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE theirs (a int)")
    with pytest.raises(LedgerError, match=r"somebody else's \(theirs\): use an empty one"):
        Ledger(url)


def test_a_ledger_of_a_newer_version_is_refused(url: str) -> None:
    Ledger(url).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE schema_version SET version = %s", (len(MIGRATIONS) + 1,))
    with pytest.raises(LedgerError, match="newer version"):
        Ledger(url)


@pytest.mark.parametrize("where", ["mysql://host/db", "postgresql://127.0.0.1:1/none", "postgresql://h/d?nonsense=1"])
def test_an_address_that_leads_nowhere_is_one_clear_line(where: str) -> None:
    with pytest.raises(LedgerError) as error:
        Ledger(where)
    assert "\n" not in str(error.value)


def test_a_password_is_not_shown() -> None:
    assert without_password("postgresql://vpp:secret@db:5432/ledger") == "postgresql://vpp@db:5432/ledger"
