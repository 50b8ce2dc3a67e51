"""Claim tokens: used once, whoever is quicker."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from cloud.identity.claims import issue_claim, redeem_claim
from cloud.store.errors import ClaimError, ClaimProblem, LedgerError
from cloud.store.ledger import Ledger

NOW_MS = 1_700_000_000_000
HOUR = timedelta(hours=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        ledger.add_site("home-01", ("fast",), NOW_MS)
    return path


def test_token_enrols_its_site_once(path: Path) -> None:
    with Ledger(path) as ledger:
        token = issue_claim(ledger, "home-01", now_ms=NOW_MS, lifetime=HOUR)
        assert redeem_claim(ledger, token, "my keys", "", now_ms=NOW_MS + 1).site == "home-01"
        with pytest.raises(ClaimError) as refusal:
            redeem_claim(ledger, token, "other keys", "", now_ms=NOW_MS + 2)
    assert refusal.value.problem is ClaimProblem.USED


def test_of_many_at_once_one_gets_in(path: Path) -> None:
    """Each through a connection of its own, as several coordinators' threads would."""
    with Ledger(path) as ledger:
        token = issue_claim(ledger, "home-01", now_ms=NOW_MS, lifetime=HOUR)

    def try_it(number: int) -> str:
        with Ledger(path) as own:
            try:
                return redeem_claim(own, token, f"keys {number}", "", now_ms=NOW_MS).site
            except ClaimError as error:
                return str(error.problem)

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(try_it, range(8)))
    assert outcomes == ["home-01"] + ["used"] * 7


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        pytest.param(HOUR - timedelta(milliseconds=1), None, id="just in time"),
        pytest.param(HOUR, ClaimProblem.EXPIRED, id="at its end"),
    ],
)
def test_token_runs_out(path: Path, after: timedelta, outcome: ClaimProblem | None) -> None:
    now_ms = NOW_MS + after // timedelta(milliseconds=1)
    with Ledger(path) as ledger:
        token = issue_claim(ledger, "home-01", now_ms=NOW_MS, lifetime=HOUR)
        found = None
        try:
            redeem_claim(ledger, token, "my keys", "", now_ms=now_ms)
        except ClaimError as error:
            found = error.problem
    assert found is outcome


def test_unknown_token_and_unknown_site_are_refused(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(ClaimError) as refusal:
            redeem_claim(ledger, "a" * 32, "my keys", "", now_ms=NOW_MS)
        with pytest.raises(LedgerError, match="elsewhere"):
            issue_claim(ledger, "elsewhere", now_ms=NOW_MS, lifetime=HOUR)
    assert refusal.value.problem is ClaimProblem.UNKNOWN


@pytest.mark.parametrize("lifetime", [timedelta(0), -HOUR, timedelta(days=91)])
def test_lifetime_is_bounded(path: Path, lifetime: timedelta) -> None:
    with Ledger(path) as ledger, pytest.raises(ValueError, match="90 days"):
        issue_claim(ledger, "home-01", now_ms=NOW_MS, lifetime=lifetime)


def test_token_is_long_random_and_kept_nowhere(path: Path) -> None:
    with Ledger(path) as ledger:
        tokens = {issue_claim(ledger, "home-01", now_ms=NOW_MS, lifetime=HOUR) for _ in range(50)}
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert len(tokens) == 50
    assert all(len(token) * 5 == 160 and token.encode() not in stored for token in tokens)
