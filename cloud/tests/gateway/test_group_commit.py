"""Writes of many calls in one transaction: each stands or falls alone, none is answered too early."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud.gateway.group_commit import MOST_TOGETHER, GroupCommit
from cloud.store.ledger import LEDGER_FILE, Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / LEDGER_FILE


def adding(ledger: Ledger, number: int, *, fails: bool = False) -> Callable[[], int]:
    def write() -> int:
        slot = ledger.add_site(f"home-{number}", (), now_ms=1).slot
        if fails:
            raise ValueError(f"home-{number}")
        return slot

    return write


async def test_each_call_gets_its_own_result_or_error_and_a_failed_one_leaves_nothing(path: Path) -> None:
    calls = 2 * MOST_TOGETHER + 3
    with Ledger(path) as ledger:
        together = GroupCommit(ledger)
        answers = await asyncio.gather(
            *(together.run(adding(ledger, number, fails=number % 5 == 1)) for number in range(calls)),
            return_exceptions=True,
        )
        kept = [number for number in range(calls) if number % 5 != 1]
        assert [answer for answer in answers if not isinstance(answer, Exception)] == list(range(len(kept)))
        assert [str(answer) for answer in answers if isinstance(answer, ValueError)] == [
            f"home-{number}" for number in range(calls) if number % 5 == 1
        ]
        assert [site.site for site in ledger.sites()] == [f"home-{number}" for number in kept]


async def test_what_was_answered_is_committed(path: Path) -> None:
    with Ledger(path) as ledger, Ledger(path) as beside:
        together = GroupCommit(ledger)

        async def call(number: int) -> bool:
            await together.run(adding(ledger, number))
            return beside.site(f"home-{number}") is not None

        assert all(await asyncio.gather(*(call(number) for number in range(10))))


async def test_a_ledger_that_cannot_be_written_is_told_to_every_call(path: Path) -> None:
    ledger = Ledger(path)
    together = GroupCommit(ledger)
    ledger.close()
    answers = await asyncio.gather(
        *(together.run(adding(ledger, number)) for number in range(3)), return_exceptions=True
    )
    assert len({str(answer) for answer in answers}) == 1
    assert all(isinstance(answer, Exception) for answer in answers)


async def test_a_call_that_was_given_up_before_its_turn_writes_nothing(path: Path) -> None:
    with Ledger(path) as ledger:
        together = GroupCommit(ledger)
        given_up = asyncio.create_task(together.run(adding(ledger, 1)))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        await together.run(adding(ledger, 2))
        assert [site.site for site in ledger.sites()] == ["home-2"]
