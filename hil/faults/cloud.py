"""Faults one after the other, under load: what was lost, how long sites waited, how long nobody led."""

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cloud.gateway.link import Link, own_login
from cloud.model.records import Term
from cloud.roles.foundation import utc_ms, utc_now
from cloud.store.errors import HistoryError, LedgerUnavailable
from cloud.store.history import History
from cloud.store.ledger import Ledger
from cloud.store.tenure import Holder
from hil.faults.cluster import Cluster, cluster
from hil.faults.load import Load, Sender
from hil.run.chain import Say
from hil.run.collect import machine
from hil.run.processes import ChainError
from protos import subjects

SITES: Final = 20
PERIOD_S: Final = 0.1
STEADY_S: Final = 3.0
FAULT_S: Final = 10.0  # how long a frozen or cut node stays so
_WITHIN_S: Final = 45.0
_TICK_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one fault came to."""

    fault: str
    lasted_s: float  # until the rig mended it
    no_ack_s: float  # the longest that any site waited for an acknowledgement
    no_leader_s: float | None  # from the fault to the next leader's term; None where the leader stayed
    no_worker_s: float | None  # from the fault until another worker wrote; None where the worker stayed
    complete_s: float  # from the mending until every acknowledged frame stood in the history
    acknowledged: int  # frames, during the fault
    lost: int  # acknowledged and not in the history
    duplicated: int  # in the history twice


def name_of(holder: Term | Holder) -> str:
    """Of the process."""
    return (holder.holder if isinstance(holder, Term) else holder.name).rsplit("/", 1)[1]


class Trial:
    """One cluster, its load and its faults."""

    def __init__(self, running: Cluster, load: Load, ledger: Ledger, say: Say) -> None:
        self.running = running
        self._load = load
        self._ledger = ledger
        self._history = History(running.history)
        self._say = say

    async def leader_of_stream(self) -> str:
        """The node that leads the telemetry stream."""
        link = Link(
            self.running.urls,
            own_login(self.running.keyring, utc_now),
            self.running.keyring.authority_file,
        )
        nc = await link.connect("faults")
        try:
            info = await nc.jsm(timeout=10.0).stream_info(subjects.telemetry_stream(0))
        finally:
            await nc.close()
        if info.cluster is None or info.cluster.leader is None:
            raise ChainError("the telemetry stream has no leader")
        return str(info.cluster.leader)

    async def leader(self) -> str:
        """The coordinator that leads."""
        return name_of(await self._term())

    def worker(self) -> Holder:
        """The ingest worker that writes the history."""
        holder = self._history.writer(0)
        if holder is None:
            raise ChainError("no worker ever wrote the history")
        return holder

    async def _term(self) -> Term:
        deadline_s = time.monotonic() + _WITHIN_S
        while True:  # a ledger that was away is back a moment after its server
            try:
                last = await asyncio.to_thread(self._ledger.last_term)
                break
            except LedgerUnavailable:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(_TICK_S)
        if last is None:
            raise ChainError("nobody ever led")
        return last

    async def suffer(
        self, name: str, do: Callable[[], Awaitable[None]], mend: Callable[[], Awaitable[None]], *, lasts_s: float
    ) -> Finding:
        """The fault, its mending, and what came of it."""
        await asyncio.sleep(STEADY_S)
        term, worker, before = await self._term(), self.worker(), self._load.acknowledged()
        self._load.begin()
        begun_s, begun_ms = time.monotonic(), utc_ms()
        await do()
        await asyncio.sleep(lasts_s)
        during = self._load.acknowledged() - before
        await mend()
        mended_s = time.monotonic()
        await self.acknowledging()
        waited_s = self._load.longest_wait_s()
        complete_s, lost, duplicated = await self._complete(mended_s)
        after = await self._term()
        if after.term > term.term:
            first = min(one.began_ms for one in await asyncio.to_thread(self._ledger.terms) if one.term > term.term)
            no_leader_s: float | None = (first - begun_ms) / 1000
        else:
            no_leader_s = None
        writes = self.worker()
        finding = Finding(
            fault=name,
            lasted_s=mended_s - begun_s,
            no_ack_s=waited_s,
            no_leader_s=no_leader_s,
            no_worker_s=(writes.began_ms - begun_ms) / 1000 if writes != worker else None,
            complete_s=complete_s,
            acknowledged=during,
            lost=lost,
            duplicated=duplicated,
        )
        self._say(f"faults: {row(finding)}")
        return finding

    async def acknowledging(self) -> None:
        """Returns when every site is acknowledged again."""
        before = [sender.acknowledged for sender in self._load.senders]
        deadline_s = time.monotonic() + _WITHIN_S
        while any(sender.acknowledged <= was for sender, was in zip(self._load.senders, before, strict=True)):
            if time.monotonic() > deadline_s:
                return
            await asyncio.sleep(_TICK_S)

    async def _complete(self, since_s: float) -> tuple[float, int, int]:
        """When the history has what was acknowledged up to now, what it has not, and what it has twice."""
        due = {sender.slot: sender.acknowledged for sender in self._load.senders}
        while True:
            try:
                counts = await asyncio.to_thread(self._history.counts)
            except HistoryError:
                counts = {}
            lost = 0
            for slot, acknowledged in due.items():
                count = counts.get(slot)
                # Frames are numbered without a gap: what is below the last one and not there is lost.
                lost += acknowledged if count is None else max(0, acknowledged - count.last_seq) + count.missing
            duplicated = sum(count.duplicate for count in counts.values())
            if not lost or time.monotonic() - since_s > _WITHIN_S:
                return time.monotonic() - since_s, lost, duplicated
            await asyncio.sleep(_TICK_S)


async def _run(running: Cluster, outage_s: float, say: Say) -> list[Finding]:
    findings: list[Finding] = []
    with Ledger(running.ledger_url) as ledger:
        senders = [
            Sender(site, ledger.add_site(site, (), now_ms=utc_ms()).slot)
            for site in (f"site-{number:02}" for number in range(SITES))
        ]
        load = Load(running.urls, running.keyring, senders, PERIOD_S)
        async with _loaded(load):
            trial = Trial(running, load, ledger, say)
            await trial.acknowledging()
            say(f"faults: {SITES} sites send {SITES / PERIOD_S:.0f} frames/s to three nodes")

            async def restart(name: str) -> None:
                await asyncio.to_thread(running.start, name)

            async def kill(name: str) -> None:
                await asyncio.to_thread(running.kill, name)

            async def send(name: str, number: signal.Signals) -> None:
                running.signal(name, number)

            async def cut(name: str, *, up: bool) -> None:
                await asyncio.to_thread(running.net.cut, running.nodes[name], up=up)

            stream_leader = await trial.leader_of_stream()
            follower = next(name for name in running.nodes if name != stream_leader)
            findings.append(
                await trial.suffer(
                    "a node of the broker killed", lambda: kill(follower), lambda: restart(follower), lasts_s=FAULT_S
                )
            )
            leader = await trial.leader_of_stream()
            findings.append(
                await trial.suffer(
                    "the stream's leading node killed", lambda: kill(leader), lambda: restart(leader), lasts_s=FAULT_S
                )
            )
            frozen = await trial.leader_of_stream()
            findings.append(
                await trial.suffer(
                    "the stream's leading node frozen",
                    lambda: send(frozen, signal.SIGSTOP),
                    lambda: send(frozen, signal.SIGCONT),
                    lasts_s=FAULT_S,
                )
            )
            if running.net.can_be_cut:
                away = await trial.leader_of_stream()
                findings.append(
                    await trial.suffer(
                        "the stream's leading node cut off",
                        lambda: cut(away, up=False),
                        lambda: cut(away, up=True),
                        lasts_s=FAULT_S,
                    )
                )
            else:
                say("faults: no network is cut: that takes root")
            killed = name_of(trial.worker())
            findings.append(
                await trial.suffer(
                    "the ingest worker killed", lambda: kill(killed), lambda: restart(killed), lasts_s=FAULT_S
                )
            )
            stopped = name_of(trial.worker())
            findings.append(
                await trial.suffer(
                    "the ingest worker frozen",
                    lambda: send(stopped, signal.SIGSTOP),
                    lambda: send(stopped, signal.SIGCONT),
                    lasts_s=FAULT_S,
                )
            )
            first = await trial.leader()
            findings.append(
                await trial.suffer(
                    "the leading coordinator killed", lambda: kill(first), lambda: restart(first), lasts_s=FAULT_S
                )
            )
            second = await trial.leader()
            findings.append(
                await trial.suffer(
                    "the leading coordinator frozen",
                    lambda: send(second, signal.SIGSTOP),
                    lambda: send(second, signal.SIGCONT),
                    lasts_s=FAULT_S,
                )
            )

            async def ledger_away() -> None:
                await asyncio.to_thread(running.ledger.stop, signal.SIGQUIT)

            async def ledger_back() -> None:
                await asyncio.to_thread(running.ledger.start)

            findings.append(await trial.suffer("the ledger's server away", ledger_away, ledger_back, lasts_s=outage_s))
    return findings


@asynccontextmanager
async def _loaded(load: Load) -> AsyncIterator[None]:
    sending = asyncio.create_task(load.run())
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.wait({sending})


def faults_cloud(*, outage_s: float, folder: Path | None, say: Say) -> dict[str, Any]:
    """The table, by fault. Raises ChainError, PostgresMissing."""
    with (
        tempfile.TemporaryDirectory(prefix="murmuration-faults-") as temporary,
        cluster((folder or Path(temporary)).absolute()) as running,
    ):
        findings = asyncio.run(_run(running, outage_s, say))
        cut = running.net.can_be_cut
    return {
        "faults": [asdict(finding) for finding in findings],
        "frames_lost": sum(finding.lost for finding in findings),
        "frames_duplicated": max(finding.duplicated for finding in findings),
        "worker_take_over_s": max((finding.no_worker_s or 0.0) for finding in findings if "worker" in finding.fault),
        "take_over_s": max((finding.no_leader_s or 0.0) for finding in findings if "coordinator" in finding.fault),
        "separate_networks": cut,
        "machine": machine(),
    }


def row(finding: Finding) -> str:
    leader, worker = (
        "stayed" if after_s is None else f"{after_s:.1f} s" for after_s in (finding.no_leader_s, finding.no_worker_s)
    )
    return (
        f"{finding.fault:36} lasted {finding.lasted_s:5.1f} s  no ack {finding.no_ack_s:5.1f} s  "
        f"leader {leader:>7}  worker {worker:>7}  "
        f"history whole after {finding.complete_s:5.1f} s  acked {finding.acknowledged:6}  lost {finding.lost}  "
        f"twice {finding.duplicated}"
    )
