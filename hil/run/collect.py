"""From the ledger, the history, the agents' journals and the rig's recording to a run's results."""

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import numpy as np
import psutil

from cloud.dispatch.expected import expected_share
from cloud.dispatch.verification import Verification, verify
from cloud.markets.settling import baseline_w, left_s
from cloud.model.records import AwardRecord, AwardShare, Description, PlanRecord, SettlementLine, Site
from cloud.store.history import HistorySlice
from hil.plant.frequency import Crossing
from hil.rigs.recording import RigRecording, level_lags, load_recording, responses
from hil.run.chain import Chain
from hil.run.processes import wait_until
from hil.run.results import Array, BookKeeping, HomeResult, HomeSeries, Results, Series, TriggerAnswer
from protos import services
from protos.frame import POINTS, SAMPLES
from protos.services import Service

LEVEL_STEP_W: Final = 10.0  # a droop's response is timed at every passage of such a step
SLOPE_W_PER_S: Final = 20.0  # where its law moves at least this fast: registers hold whole watts
MOVED_SHARE: Final = 0.01  # of the contracted power: a trigger's response has begun
OWED_SHARE: Final = 0.95  # of the largest response owed: where promised and delivered are compared
IDEAL_STEP_MS: Final = 5.0
SETTLING_MS: Final = 1000.0  # around a step of the schedule
ANSWER_MS: Final = (-100.0, 500.0)  # around a trigger's crossing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One site's part of an award, with all that is known of it."""

    award: AwardRecord
    service: Service
    plan: PlanRecord
    site: Site
    share: AwardShare
    line: SettlementLine
    told: Description


def collect(chain: Chain, *, started: datetime, played_at: datetime) -> Results:
    """Everything the report shows. Waits until what the agents have sent so far is in the history."""
    book = book_keeping(chain)
    ledger = chain.ledger
    awards = ledger.awards()
    parts = sorted(_parts(chain, awards), key=lambda part: part.site.site)
    start_ms = min(a.delivery_start_ms for a in awards)
    end_ms = max(a.delivery_end_ms for a in awards)
    measured = chain.history.read([part.site.slot for part in parts], start_ms, end_ms)
    recording = load_recording(chain.save_recording())
    played_ms = played_at.timestamp() * 1000
    baselines = {p.site.site: baseline_w(p.plan, p.site.site, measured.t_ms) for p in parts}
    verdicts = {p.site.site: _verdict(p, i, measured, baselines[p.site.site]) for i, p in enumerate(parts)}
    promised = {
        p.site.site: baselines[p.site.site] + p.share.contracted_w * verdicts[p.site.site].expected_share for p in parts
    }
    homes = tuple(
        _home(p, measured, baselines[p.site.site], verdicts[p.site.site], recording, played_ms) for p in parts
    )
    t_s = (measured.t_ms - played_ms) / 1000
    power = measured.columns["inverter_power_w"]
    settlements = [s for s in (ledger.settlement(a.award_id) for a in awards) if s is not None]
    return Results(
        started=started,
        machine=machine(),
        scenario=str(chain.rig["title"]),
        currency=awards[0].currency,
        delivery_start=datetime.fromtimestamp(start_ms / 1000, UTC),
        delivery_end=datetime.fromtimestamp(end_ms / 1000, UTC),
        played_at=played_at,
        prices={a.product: a.clearing_price_per_mw_h for a in awards},
        services={p.service.id: p.service.title for p in parts},
        thresholds_hz={p.service.id: p.service.thresholds_hz[0] for p in parts if p.service.thresholds_hz},
        homes=homes,
        total_amount=sum((s.total_amount for s in settlements), Decimal(0)),
        book=book,
        fleet=Series(
            t_s=t_s,
            frequency_hz=_mean(measured.columns["frequency_hz"]),
            power_w=power.sum(axis=0),
            baseline_w=_total(baselines),
            promised_w=_total(promised),
        ),
        per_home=tuple(
            HomeSeries(
                site=p.site.site,
                service_id=p.service.id,
                t_s=t_s,
                power_w=power[i],
                promised_w=promised[p.site.site],
            )
            for i, p in enumerate(parts)
        ),
        answers=tuple(_answers(parts, recording, played_ms)),
    )


def machine() -> str:
    """The machine in a few words."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory_gb = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory_gb:.0f} GiB, Python {platform.python_version()}"


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        yield from file


def book_keeping(chain: Chain) -> BookKeeping:
    """Counts at both ends, once what was sent by now could reach the history."""
    sent = {site: chain.journal(site).frames_created for site in chain.sites}
    slots = {site.site: site.slot for site in chain.ledger.sites()}

    def stored() -> bool:
        counts = chain.history.counts()
        return all((c := counts.get(slots[s])) is not None and c.last_seq >= sent[s] for s in sent)

    wait_until(stored, "frames sent are in the history", within_s=30, processes=chain.processes)
    thinned = chain.ledger.thinned_by_slot()
    counts = [chain.history.counts(thinned)[slots[site]] for site in chain.sites]
    # The agents go on sending meanwhile: what they sent since is counted as sent, too.
    arrived_since = sum(max(0, c.last_seq - sent[s]) for s, c in zip(chain.sites, counts, strict=True))
    return BookKeeping(
        sent=sum(sent.values()) + arrived_since,
        stored=sum(c.distinct for c in counts),
        missing=sum(c.missing for c in counts),
        thinned=sum(c.thinned for c in counts),
        duplicate=sum(c.duplicate for c in counts),
        bytes_per_value_wire=_wire_bytes_per_value(chain),
        bytes_per_value_disk=chain.history.size().bytes_per_value,
    )


def _wire_bytes_per_value(chain: Chain) -> float:
    statuses = [chain.journal(site) for site in chain.sites]
    values = len(POINTS) * SAMPLES * sum(s.frames_acknowledged for s in statuses)
    return sum(s.bytes_acknowledged for s in statuses) / values if values else float("nan")


def _parts(chain: Chain, awards: list[AwardRecord]) -> Iterator[_Part]:
    ledger = chain.ledger
    sites = {site.site: site for site in ledger.sites()}
    for award in awards:
        session = ledger.market_session(award.session_id)
        plan = ledger.plan(session.plan_id) if session is not None and session.plan_id else None
        assert plan is not None, "a settled award has its plan"  # noqa: S101
        lines = {line.site: line for line in ledger.settlement_lines(award.award_id)}
        for share in ledger.award_shares(award.award_id):
            description = sites[share.site].description
            assert description is not None, "an awarded site has told what it is"  # noqa: S101
            yield _Part(
                award=award,
                service=services.parse(award.service_toml),
                plan=plan,
                site=sites[share.site],
                share=share,
                line=lines[share.site],
                told=description,
            )


def _verdict(part: _Part, index: int, measured: HistorySlice, baseline: Array) -> Verification:
    return verify(
        part.service,
        contracted_w=part.share.contracted_w,
        rated_power_w=part.told.rated_power_w,
        baseline_w=baseline,
        power_w=measured.columns["inverter_power_w"][index],
        frequency_hz=measured.columns["frequency_hz"][index],
        dt_s=measured.interval_ms / 1000,
        left_s=left_s(part.service, part.told, part.share.contracted_w, measured.columns["soc"][index]),
    )


def _home(
    part: _Part,
    measured: HistorySlice,
    baseline: Array,
    verdict: Verification,
    recording: RigRecording,
    played_ms: float,
) -> HomeResult:
    contracted_w = part.share.contracted_w
    owed = np.abs(verdict.expected_share)
    most = owed >= max(OWED_SHARE * float(owed.max()), 1e-9)
    line = part.line
    return HomeResult(
        site=part.site.site,
        service_id=part.service.id,
        contracted_w=contracted_w,
        plan_w=float(np.interp(played_ms, measured.t_ms, baseline)),
        promised_w=_mean_where(contracted_w * verdict.expected_share, most),
        delivered_w=_mean_where(contracted_w * verdict.delivered_share, most),
        energy_wh=line.energy_wh,
        performance_error=line.performance_error,
        performance_factor=line.performance_factor,
        delivered=line.delivered,
        capacity_amount=line.capacity_amount,
        energy_amount=line.energy_amount,
        total_amount=line.total_amount,
        responses_ms=tuple(_responses_ms(part, recording, played_ms)),
    )


def _responses_ms(part: _Part, recording: RigRecording, played_ms: float) -> Iterator[float]:
    """Response times of one home at the device, as hil.run.report defines them."""
    device = recording.homes[part.site.site]
    if part.service.trigger is not None:
        crossing = _crossing(part, recording, played_ms)
        for response in responses(device, crossing, threshold_w=MOVED_SHARE * part.share.contracted_w):
            if response.to_movement_ms is not None:
                yield response.to_movement_ms
        return
    end_ms = min(part.award.delivery_end_ms, float(device.t_ms[-1]))
    t_ms = np.arange(max(part.award.delivery_start_ms, float(device.t_ms[0])), end_ms, IDEAL_STEP_MS)
    share = expected_share(
        part.service, recording.frequency(t_ms), IDEAL_STEP_MS / 1000, part.told.rated_power_w / part.share.contracted_w
    )
    baseline = baseline_w(part.plan, part.site.site, t_ms.astype(np.int64))
    ideal_w = baseline + part.share.contracted_w * share
    levels = np.arange(np.ceil(np.nanmin(ideal_w) / LEVEL_STEP_W), np.nanmax(ideal_w) / LEVEL_STEP_W) * LEVEL_STEP_W
    slope_w_per_s = np.abs(np.gradient(part.share.contracted_w * share)) * 1000 / IDEAL_STEP_MS
    scheduled_ms = t_ms[np.flatnonzero(np.diff(baseline))]  # the schedule's steps are no answer to the frequency
    for lag in level_lags(device, t_ms, ideal_w, [float(level) for level in levels]):
        moving = np.interp(lag.ideal_ms, t_ms, slope_w_per_s) >= SLOPE_W_PER_S
        if lag.lag_ms is not None and moving and not np.any(np.abs(scheduled_ms - lag.ideal_ms) < SETTLING_MS):
            yield lag.lag_ms


def _crossing(part: _Part, recording: RigRecording, played_ms: float) -> list[Crossing]:
    """The one crossing that a trigger answers: the first one out through its threshold; none if there was none."""
    assert part.service.trigger is not None  # noqa: S101 (asked for triggers only)
    end_ms = min(part.award.delivery_end_ms, float(recording.homes[part.site.site].t_ms[-1]))
    found = recording.crossings(part.service.trigger.threshold_hz, from_ms=played_ms, to_ms=end_ms)
    return [crossing for crossing in found if crossing.falling == (part.service.trigger.sign > 0)][:1]


def _answers(parts: list[_Part], recording: RigRecording, played_ms: float) -> Iterator[TriggerAnswer]:
    for part in parts:
        if part.service.trigger is None:
            continue
        device = recording.homes[part.site.site]
        for crossing in _crossing(part, recording, played_ms):
            t_ms = device.t_ms - crossing.utc_ms
            around = (t_ms >= ANSWER_MS[0]) & (t_ms <= ANSWER_MS[1])
            before_w = np.interp(0.0, t_ms, device.power_w)
            yield TriggerAnswer(
                site=part.site.site,
                t_ms=t_ms[around],
                share=(device.power_w[around] - before_w) / part.share.contracted_w,
                full_within_ms=1000 * part.service.timing.full_delivery_s,
            )


def _mean_where(values: Array, which: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    chosen = values[which & np.isfinite(values)]
    return float(chosen.mean()) if chosen.size else float("nan")


def _mean(rows: Array) -> Array:
    """Column means of what was measured; NaN where nothing was."""
    known = np.isfinite(rows)
    count = known.sum(axis=0)
    total = np.where(known, rows, 0.0).sum(axis=0)
    mean: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _total(rows: Mapping[str, Array]) -> Array:
    total: Array = np.stack(list(rows.values())).sum(axis=0)
    return total
