"""Who may speak for whom; compressed batches; and bytes of any kind, which never stop a partition."""

import random
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.ingest.decode import MOST_UNPACKED_BYTES, Cause, decode
from cloud.ingest.owners import NOBODY, Owners, partitions
from cloud.ingest.testing import packed
from cloud.store.errors import LedgerError
from cloud.store.ledger import LEDGER_FILE, Ledger
from protos import frame, subjects

T0_MS = 1_790_000_000_000
NOW_MS = T0_MS + 60_000


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / LEDGER_FILE)
    for site in ("north", "home-1", "home-2", "home-3"):
        ledger.add_site(site, (), now_ms=1)
    return ledger


def spoken(owners: Owners, subject: str, slot: int, now_ms: int = 1) -> tuple[bool, bool]:
    """Whether the subject's speaker may speak for the slot, and in that partition."""
    speaker, partition = owners.speakers([subject.encode()], now_ms)
    allowed = bool(owners.may_speak(np.array([slot]), speaker, now_ms)[0])
    return allowed, allowed and bool(owners.in_partition(np.array([slot]), partition)[0])


def test_a_concentrator_speaks_for_the_sites_behind_it_in_their_partitions_alone(ledger: Ledger) -> None:
    ledger.set_concentrator(["home-1", "home-2"], "north", 1, "test")
    owners = Owners(ledger)
    owners.refresh()
    home = subjects.partition("home-1")
    assert spoken(owners, f"vpp.tel.{home}.north", 1) == (True, True)
    assert spoken(owners, f"vpp.tel.{(home + 1) % 64}.north", 1) == (True, False)  # another worker's
    assert spoken(owners, f"vpp.tel.{subjects.partition('home-3')}.north", 3) == (False, False)
    assert spoken(owners, f"vpp.tel.{home}.home-1", 1) == (True, True)  # it may still speak for itself
    assert spoken(owners, f"vpp.tel.{subjects.partition('home-2')}.home-1", 2) == (False, False)
    assert spoken(owners, f"vpp.tel.{home}.stranger", 1) == (False, False)
    assert spoken(owners, f"vpp.tel.{home}.home-1", 99) == (False, False)
    assert owners.speakers([b"vpp.tel.1.stranger"], 1)[0].tolist() == [NOBODY]


def test_what_the_registry_learns_later_counts(ledger: Ledger) -> None:
    owners = Owners(ledger)
    owners.refresh()
    subject = f"vpp.tel.{subjects.partition('home-1')}.north"
    assert spoken(owners, subject, 1, now_ms=10_000) == (False, False)
    ledger.set_concentrator(["home-1"], "north", 1, "test")
    assert spoken(owners, subject, 1, now_ms=20_000) == (True, True)
    ledger.add_site("home-4", (), now_ms=1)
    assert spoken(owners, f"vpp.tel.{subjects.partition('home-4')}.home-4", 4, now_ms=20_001) == (True, True)
    with pytest.raises(LedgerError, match="unknown"):
        ledger.set_concentrator(["home-1"], "nobody", 1, "test")
    with pytest.raises(LedgerError, match="its own"):
        ledger.set_concentrator(["north"], "north", 1, "test")


@given(st.lists(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True), min_size=1, max_size=20))
def test_partitions_of_many_names_are_those_of_each(names: list[str]) -> None:
    assert partitions(names).tolist() == [subjects.partition(name) for name in names]


def a_batch(number: int = 40) -> bytes:
    return frame.batch([packed(slot, 1, T0_MS) for slot in range(number)])


def test_a_compressed_batch_is_read_as_the_batch_it_is() -> None:
    plain, _ = decode([a_batch()], NOW_MS)
    frames, bad = decode([zstandard.compress(a_batch(), 1), a_batch(3)], NOW_MS)
    assert bad == []
    assert frames.message.tolist() == [0] * 40 + [1] * 3
    assert (frames.counts[:40] == plain.counts).all()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(zstandard.compress(bytes(MOST_UNPACKED_BYTES + 1)), id="a bomb"),
        pytest.param(zstandard.compress(a_batch(), 1)[:-9], id="cut short"),
        pytest.param(
            zstandard.ZstdCompressor(write_content_size=False).compress(a_batch()), id="of a size it does not tell"
        ),
        pytest.param(b"\x28\xb5\x2f\xfd", id="nothing but the magic number"),
    ],
)
def test_what_cannot_be_unpacked_is_refused(message: bytes) -> None:
    frames, bad = decode([a_batch(2), message, a_batch(2)], NOW_MS)
    assert frames.message.tolist() == [0, 0, 2, 2]
    assert [(one.cause, one.message) for one in bad] == [(Cause.COMPRESSION, 1)]


@given(st.randoms(use_true_random=False), st.booleans())
@settings(deadline=None, max_examples=200)
def test_mutated_bytes_are_refused_by_cause_and_the_rest_is_taken(dice: random.Random, compressed: bool) -> None:
    data = bytearray(zstandard.compress(a_batch(5), 1) if compressed else a_batch(5))
    for _ in range(dice.randrange(1, 12)):
        act, where = dice.randrange(4), dice.randrange(len(data))
        if act == 0:
            data[where] = dice.randrange(256)
        elif act == 1:
            del data[where : where + dice.randrange(1, 40)]
        elif act == 2:
            data[where:where] = dice.randbytes(dice.randrange(1, 40))
        else:
            data = data[: where + 1]
        if not data:
            break
    frames, bad = decode([a_batch(4), bytes(data), a_batch(4)], NOW_MS)
    assert (frames.message == 0).sum() == 4
    assert (frames.message == 2).sum() == 4
    assert all(one.message == 1 for one in bad)
    taken = frames.take(frames.message == 1)
    assert (taken.seq >= 1).all()
    assert (taken.t0_ms < NOW_MS + 3_600_000).all()


@pytest.mark.parametrize(("field", "value"), [("seq", 0), ("t0_ms", NOW_MS + 7_200_000)])
def test_a_frame_of_no_number_or_of_the_future_is_refused(field: str, value: int) -> None:
    good = {"slot": 1, "seq": 1, "t0_ms": T0_MS}
    name = {"seq": Cause.SEQ, "t0_ms": Cause.INSTANT}[field]
    frames, bad = decode([frame.batch([packed(**(good | {field: value}))])], NOW_MS)
    assert len(frames) == 0
    assert [one.cause for one in bad] == [name]
