"""The ingest worker against a real broker: every frame once, whatever dies in between."""

import asyncio
import random
import threading
from typing import Any

import numpy as np
import pytest

from cloud.ingest import reader
from cloud.ingest.decode import Cause
from cloud.ingest.testing import (
    DEADLINE_S,
    NOON_MS,
    SITES,
    STREAM,
    Plant,
    Server,
    WorkerProcess,
    a_batch,
    eventually,
    packed,
    utc_ms,
)
from cloud.model.records import Severity
from cloud.store.rejected import read as read_rejected
from protos import frame


async def test_what_sites_send_is_shown_and_then_stored(plant: Plant) -> None:
    async with plant.running(plant.worker(flush_s=3600)):
        for slot, site in enumerate(SITES):
            await plant.sites.send(site, a_batch(slot, 1, 5))
        await plant.shown(20)
        assert plant.history.counts() == {}  # shown before they are written
        assert plant.fleet.gaps.tolist() == [0, 0, 0, 0]
    counts = plant.history.counts()
    assert list(counts) == [0, 1, 2, 3]
    assert {(count.stored, count.missing, count.duplicate) for count in counts.values()} == {(5, 0, 0)}
    read = plant.history.read([2], NOON_MS + 1000, NOON_MS + 6000)
    assert read.columns["inverter_power_w"][0].tolist() == [float(seq) for seq in range(1, 6) for _ in range(10)]
    assert read.columns["grid_power_w"][0, :10].tolist() == [200.0 + sample for sample in range(10)]
    assert np.isnan(read.columns["voltage_v"][0]).sum() == 5 * 9


async def test_a_batch_sent_again_under_another_id_is_stored_once(plant: Plant) -> None:
    async with plant.running(plant.worker(flush_s=0.02)):
        for message_id in ("a", "b", "c"):
            await plant.sites.send(SITES[0], a_batch(0, 1, 5), message_id=message_id)
        await plant.sites.send(SITES[0], a_batch(0, 4, 8), message_id="d")  # cut differently by a restarted agent
        await eventually(lambda: plant.fleet.duplicates.sum() == 12, "12 duplicates counted")
    count = plant.history.counts()[0]
    assert (count.stored, count.distinct, count.missing) == (8, 8, 0)


async def test_duplicates_are_known_after_a_restart(plant: Plant) -> None:
    async with plant.running(plant.worker()):
        await plant.sites.send(SITES[0], a_batch(0, 1, 5))
        await plant.shown(5)
    async with plant.running(plant.worker()):
        await plant.sites.send(SITES[0], a_batch(0, 1, 6))
        await plant.shown(6)
    count = plant.history.counts()[0]
    assert (count.stored, count.duplicate, count.missing) == (6, 0, 0)


async def test_late_frames_fill_their_gap_and_are_no_duplicates(plant: Plant) -> None:
    async with plant.running(plant.worker()):
        await plant.sites.send(SITES[1], a_batch(1, 1, 2))
        await plant.sites.send(SITES[1], a_batch(1, 6, 7))
        await plant.shown(4)
        assert plant.fleet.gaps[1] == 3
        await plant.sites.send(SITES[1], a_batch(1, 3, 5))
        await plant.shown(7)
        assert plant.fleet.gaps[1] == 0
        assert plant.fleet.duplicates[1] == 0
    count = plant.history.counts()[1]
    assert (count.stored, count.missing) == (7, 0)


async def test_what_a_subject_does_not_own_and_what_does_not_parse_is_refused_and_told(plant: Plant) -> None:
    worker = plant.worker()
    async with plant.running(worker):
        await plant.sites.send(SITES[0], a_batch(1, 1, 3))  # speaks for another slot
        await plant.sites.send("stranger", a_batch(0, 4, 4))
        await plant.sites.send(SITES[0], b"\x0a\xff\xff\xff\xff\xff nothing")
        await plant.sites.send(SITES[0], a_batch(0, 1, 2))
        await plant.shown(2)
    assert worker.refused_by_cause == {Cause.OWNER: 3, Cause.SITE: 1, Cause.NOT_A_BATCH: 1}
    book = read_rejected(plant.history.place)[0]
    assert [(one.sequence, one.times) for one in book.kept] == [(1, 3), (2, 1), (3, 1)]
    assert book.counts == {Cause.OWNER: 3, Cause.SITE: 1, Cause.NOT_A_BATCH: 1}
    assert book.kept[2].data.endswith(b"nothing")
    assert plant.fleet.refused[0] == 4
    assert list(plant.history.counts()) == [0]
    told = [event for event in plant.ledger.events() if event.code == "telemetry.refused"]
    assert len(told) == 3
    assert all(event.severity is Severity.WARNING for event in told)


async def test_a_worker_killed_fifty_times_loses_nothing_and_doubles_nothing(plant: Plant, server: Server) -> None:
    """SIGKILL at random instants while four sites send, in flushes, sums and joins: each frame is there once."""
    dice = random.Random(7)
    kills, batches, in_batch = 50, 12, 3  # batches of each site between two kills
    since_ms = utc_ms() // 900_000 * 900_000 - 900_000

    async def send(slot: int, site: str, first_batch: int) -> None:
        for number in range(first_batch, first_batch + batches):
            first = 1 + number * in_batch
            data = frame.batch([packed(slot, seq, since_ms + 1000 * seq) for seq in range(first, first + in_batch)])
            await plant.sites.send(site, data)

    process = WorkerProcess(server.url, plant.folder, STREAM)
    try:
        process.start()
        for kill in range(kills):
            async with asyncio.TaskGroup() as sending:
                for slot, site in enumerate(SITES):
                    sending.create_task(send(slot, site, kill * batches))
                # Sometimes in the middle of the work, sometimes as soon as something is sent.
                at = (kill * batches + dice.randrange(batches)) * len(SITES)
                await (plant.stored(at) if kill % 4 else plant.sites.have_sent(at))
                process.kill()
                process.start()
        await plant.stored(kills * batches * len(SITES))
        assert process.alive, process.said
    finally:
        process.kill()
    each = kills * batches * in_batch
    counts = plant.history.counts()
    assert list(counts) == [0, 1, 2, 3]
    assert {(count.stored, count.distinct, count.missing) for count in counts.values()} == {(each, each, 0)}
    plant.history.tidy(0)  # as the next worker would
    plant.history.upkeep(0, utc_ms())
    energy_wh = np.zeros(len(SITES))
    for batch in plant.history.series(None, since_ms, since_ms + 86_400_000, ["inverter_power_w"]):
        np.add.at(energy_wh, batch.column("slot").to_numpy(), batch.column("inverter_energy_wh").to_numpy())
    assert energy_wh.tolist() == pytest.approx([each * (each + 1) / 2 / 3600] * len(SITES))  # power is the number


async def test_a_broker_that_is_killed_and_returns_is_read_on(plant: Plant, server: Server) -> None:
    async with plant.running(plant.worker(flush_s=0.02)):
        await plant.sites.send(SITES[0], a_batch(0, 1, 5))
        await plant.shown(5)
        for round_ in range(1, 4):
            server.kill()
            await server.start()
            await eventually(lambda: plant.connection.is_connected, "connected again")
            await plant.sites.send(SITES[0], a_batch(0, 1 + 5 * round_, 5 + 5 * round_))
            shown = 5 * (round_ + 1)
            await plant.shown(shown)
    count = plant.history.counts()[0]
    assert (count.stored, count.duplicate, count.missing) == (20, 0, 0)


async def test_a_consumer_that_is_taken_away_is_replaced(plant: Plant) -> None:
    manager = plant.connection.jsm()
    async with plant.running(plant.worker(flush_s=0.02)):
        await plant.sites.send(SITES[0], a_batch(0, 1, 5))
        await plant.shown(5)
        for consumer in await manager.consumers_info(STREAM):
            await manager.delete_consumer(STREAM, consumer.name)
        await plant.sites.send(SITES[0], a_batch(0, 6, 9))
        await plant.shown(9)
    count = plant.history.counts()[0]
    assert (count.stored, count.duplicate, count.missing) == (9, 0, 0)


@pytest.mark.parametrize("while_running", [True, False], ids=["while the worker runs", "while no worker runs"])
async def test_a_stream_made_anew_raises_an_alarm_and_loses_no_history(plant: Plant, while_running: bool) -> None:
    async def first_life() -> None:
        for number in range(1, 8):
            await plant.sites.send(SITES[0], a_batch(0, number, number))
        await plant.shown(7)

    async def second_life() -> None:
        await plant.sites.send(SITES[0], a_batch(0, 7, 9))
        await plant.shown(9)

    async def new_stream() -> None:
        await plant.sites.delete_stream()
        await plant.sites.make_stream()

    if while_running:
        async with plant.running(plant.worker(flush_s=3600)):
            await first_life()
            await new_stream()
            await second_life()
    else:
        async with plant.running(plant.worker()):
            await first_life()
        await new_stream()
        async with plant.running(plant.worker()):
            await second_life()
    count = plant.history.counts()[0]
    assert (count.stored, count.duplicate, count.missing) == (9, 0, 0)
    position = plant.history.position(0)
    assert position is not None
    assert (position.epoch, position.last_sequence) == (1, 1)
    assert [event.code for event in plant.ledger.events(least=Severity.ALARM)] == ["stream.anew"]
    async with plant.running(plant.worker()):  # reads on in the second life, without another alarm
        await plant.sites.send(SITES[0], a_batch(0, 10, 10))
        await plant.shown(10)
    assert plant.history.counts()[0].stored == 10
    assert len(plant.ledger.events(least=Severity.ALARM)) == 1


async def test_what_came_during_a_slow_flush_is_written_at_the_stop(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    append = plant.history.append

    def slow(*values: Any) -> Any:
        writing.set()
        assert go_on.wait(DEADLINE_S)
        return append(*values)

    monkeypatch.setattr(plant.history, "append", slow)
    async with plant.running(plant.worker(flush_s=0.02)):
        await plant.sites.send(SITES[0], a_batch(0, 1, 5))
        await eventually(writing.is_set, "a flush has begun")
        await plant.sites.send(SITES[0], a_batch(0, 6, 9))
        await plant.shown(9)
        asyncio.get_running_loop().call_later(0.1, go_on.set)  # in the middle of the stop
    assert plant.history.counts()[0].stored == 9


async def test_what_may_wait_for_the_disk_is_bounded_and_the_stream_holds_the_rest(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, append = threading.Event(), plant.history.append

    def slow(*values: Any) -> Any:
        assert go_on.wait(DEADLINE_S)
        return append(*values)

    monkeypatch.setattr(plant.history, "append", slow)
    monkeypatch.setattr(reader, "PULL_MESSAGES", 3)
    messages, most = 60, 100
    async with plant.running(plant.worker(flush_s=0.02, most_frames=most)) as worker:
        for number in range(messages):
            await plant.sites.send(SITES[0], a_batch(0, 1 + 5 * number, 5 + 5 * number))
        await eventually(lambda: worker.waiting >= most, "as much waits as may")
        await plant.sites.send(SITES[0], a_batch(0, 1 + 5 * messages, 5 + 5 * messages))
        assert worker.waiting <= most + 5 * 3 * reader.PULLS  # what was under way when it was full
        go_on.set()
        await plant.stored(messages + 1)
    count = plant.history.counts()[0]
    assert (count.stored, count.missing, count.duplicate) == (5 * (messages + 1), 0, 0)


async def test_telemetry_waits_while_the_disk_refuses(plant: Plant) -> None:
    blocker = plant.folder / "history"
    worker = plant.worker(flush_s=0.02)
    async with plant.running(worker):
        blocker.write_text("in the way")
        await plant.sites.send(SITES[0], a_batch(0, 1, 5))
        await eventually(lambda: worker.flush_fails, "writing fails")
        blocker.unlink()
        await plant.stored(1)
    assert plant.history.counts()[0].stored == 5
