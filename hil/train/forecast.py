"""Trains the site's forecast on recorded homes, and judges it on days and homes that it was not trained on.

Trained on the first three quarters of the year of eight homes of Fontana; judged on the last quarter of theirs, on that
of three homes that it never saw, and on nine months of a home on another continent. The judge is seasonal persistence,
at the recording's own resolution.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final

import numpy as np

from edge_agent.forecast.features import BASE, Features, features
from edge_agent.forecast.horizon import DAY, HISTORY, HORIZON, STEP_S
from edge_agent.forecast.persistence import persist
from hil.data.recordings import HOMES, Array, QuarterHours, fontana_year, french_home
from hil.train.export import export
from hil.train.network import Array32, Network, train

SEED: Final = 20161
TRAINED_HOMES: Final = 8  # of 11
TRAINED_SHARE: Final = 0.75  # of the year
TRAINED_EVERY: Final = (44, 48, 52)  # quarter hours between origins, by home: no hour of the day is left out
JUDGED_EVERY: Final = 72
TARGETS: Final = 24  # of an origin's quarter hours, in training
# Load is expected at its mean, for energy is summed from it; sun at its median.
DELTAS: Final = {"load": 1.0, "sun": 0.05}


@dataclass(frozen=True, slots=True)
class Judged:
    """Mean over homes, at the recorded resolution [W]; sun of Fontana by kW installed."""

    quantity: str
    days: str
    homes: int
    mae_w: float
    persistence_mae_w: float
    bias_w: float
    mean_w: float
    ratio: float  # mean over homes of the model's error by persistence's
    worst_ratio: float  # of a home


@dataclass(frozen=True, slots=True)
class _Origin:
    """One forecast, and what came."""

    seen: Features
    actual_w: Array
    history_w: Array


def trained(homes: int = TRAINED_HOMES) -> dict[str, Network]:
    """A network for each quantity, of the first `homes` homes."""
    return {quantity: _trained(quantity, homes) for quantity in DELTAS}


def judged(networks: dict[str, Network]) -> list[Judged]:
    """On what they were not trained on."""
    known, unknown = range(1, TRAINED_HOMES + 1), range(TRAINED_HOMES + 1, HOMES + 1)
    found = []
    for quantity, network in networks.items():
        for days, homes, begin in (
            ("Fontana, May to July, homes that were trained on", [fontana_year(n) for n in known], TRAINED_SHARE),
            ("Fontana, May to July, homes that were not", [fontana_year(n) for n in unknown], TRAINED_SHARE),
            ("France, March to November, a home that was not", [french_home()], 0.0),
        ):
            found.append(_judged(network, quantity, days, homes, begin))
    return found


def model_file(networks: dict[str, Network], figures: Iterable[Judged]) -> bytes:
    """The ONNX file, with what it was trained on and how it did."""
    told = {"murmuration.trained_on": f"Fontana homes 1..{TRAINED_HOMES}, August 2016 to April 2017, seed {SEED}"}
    for each in figures:
        told[f"murmuration.mae.{each.quantity}.{each.days}"] = (
            f"{each.mae_w:.1f} W, persistence {each.persistence_mae_w:.1f} W"
        )
    return export(networks, told)


def as_rows(figures: Iterable[Judged]) -> list[dict[str, object]]:
    """For JSON, to a tenth of a watt and a thousandth."""
    return [
        {
            name: round(value, 3 if "ratio" in name else 1) if isinstance(value, float) else value
            for name, value in asdict(each).items()
        }
        for each in figures
    ]


def _trained(quantity: str, homes: int) -> Network:
    random = np.random.default_rng(SEED)
    rows: list[Array32] = []
    targets: list[Array32] = []
    for number in range(1, homes + 1):
        home = fontana_year(number)
        every = TRAINED_EVERY[number % len(TRAINED_EVERY)]
        for origin in _origins(home, quantity, 0.0, TRAINED_SHARE, every):
            chosen = random.choice(HORIZON, TARGETS, replace=False)
            wanted = origin.actual_w[chosen] / origin.seen.scale_w
            known = np.isfinite(wanted)
            rows.append(origin.seen.rows[chosen][known])
            targets.append(wanted[known].astype(np.float32))
    return train(np.concatenate(rows), np.concatenate(targets), base=BASE, delta=DELTAS[quantity], seed=SEED)


def _judged(network: Network, quantity: str, days: str, homes: list[QuarterHours], begin: float) -> Judged:
    figures = []
    for home in homes:
        model, usual, actual = [], [], []
        for origin in _origins(home, quantity, begin, 1.0, JUDGED_EVERY):
            told = [None if np.isnan(value) else float(value) for value in origin.history_w]
            model.append(_recorded(network(origin.seen.rows).astype(np.float64) * origin.seen.scale_w, home.recorded))
            usual.append(_recorded(np.array(persist(told)), home.recorded))
            actual.append(_recorded(origin.actual_w, home.recorded))
        one, other, came = np.concatenate(model), np.concatenate(usual), np.concatenate(actual)
        known = np.isfinite(came)
        one, other, came = one[known], other[known], came[known]
        figures.append((np.abs(one - came).mean(), np.abs(other - came).mean(), (one - came).mean(), came.mean()))
    mae, persistence, bias, mean = np.array(figures).T
    return Judged(
        quantity=quantity,
        days=days,
        homes=len(homes),
        mae_w=float(mae.mean()),
        persistence_mae_w=float(persistence.mean()),
        bias_w=float(bias.mean()),
        mean_w=float(mean.mean()),
        ratio=float((mae / persistence).mean()),
        worst_ratio=float((mae / persistence).max()),
    )


def _origins(home: QuarterHours, quantity: str, begin: float, end: float, every: int) -> Iterator[_Origin]:
    """Origins inside shares of the recording, whose whole horizon is inside it too."""
    series = home.load_w if quantity == "load" else home.pv_w
    first, last = max(round(begin * series.size), HISTORY), round(end * series.size) - HORIZON
    first -= first % home.recorded
    for at in range(first, last + 1, every):
        time = home.first + timedelta(seconds=STEP_S * at)
        seen = features(
            series[at - HISTORY : at],
            weekday=time.weekday(),
            quarter=at % DAY,
            peak=quantity == "sun",
        )
        if seen is not None:
            yield _Origin(seen, series[at : at + HORIZON], series[at - HISTORY : at])


def _recorded(quarters: Array, width: int) -> Array:
    """Means over the recorded intervals."""
    found: Array = np.asarray(quarters, dtype=np.float64).reshape(-1, width).mean(axis=1)
    return found
