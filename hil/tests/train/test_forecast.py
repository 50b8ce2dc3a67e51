"""The site's forecast on recorded days that it was not trained on; onnxruntime runs what numpy trained."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import edge_agent.forecast
from cloud.forecast import persistence as clouds
from edge_agent.forecast.features import NAMES, features
from edge_agent.forecast.horizon import DAY, HISTORY, HORIZON
from edge_agent.forecast.persistence import persist
from hil.data.recordings import QuarterHours, fontana_year, french_home
from hil.train.export import export
from hil.train.forecast import trained

SHIPPED = Path(str(edge_agent.forecast.__file__)).parent / "site-forecast.onnx"


def say(session: onnxruntime.InferenceSession, quantity: str, rows: np.ndarray) -> np.ndarray:
    none = np.zeros((HORIZON, len(NAMES)), np.float32)
    return np.asarray(session.run([f"{quantity}_share"], {"load": none, "sun": none, quantity: rows})[0])


@pytest.mark.parametrize("quantity", ["load", "sun"])
@pytest.mark.parametrize(
    ("home", "begin"),
    [
        pytest.param(fontana_year(2), 0.75, id="May to July of a home whose other months were trained on"),
        pytest.param(fontana_year(10), 0.75, id="May to July of a home that was not"),
        pytest.param(french_home(), 0.0, id="a home on another continent"),
    ],
)
def test_the_model_that_ships_beats_seasonal_persistence(home: QuarterHours, begin: float, quantity: str) -> None:
    """At the recording's own resolution, from every fourth day on."""
    session = onnxruntime.InferenceSession(SHIPPED)
    series = home.load_w if quantity == "load" else home.pv_w
    errors: list[np.ndarray] = []
    for origin in range(max(round(begin * 365) * DAY, HISTORY), series.size - HORIZON, 4 * DAY + DAY // 4):
        history = series[origin - HISTORY : origin]
        weekday = (home.first.weekday() + origin // DAY) % 7
        seen = features(history, weekday=weekday, quarter=origin % DAY, peak=quantity == "sun")
        if seen is None:
            continue
        usual = clouds.persist(history, HORIZON, DAY).energy_wh
        told = [None if np.isnan(value) else float(value) for value in history]
        assert persist(told) == pytest.approx(list(usual)), "the edge's persistence is the cloud's"
        came = series[origin : origin + HORIZON]
        both = np.array([say(session, quantity, seen.rows) * seen.scale_w - came, usual - came])
        errors.append(np.abs(both.reshape(2, -1, home.recorded).mean(axis=2)))
    mine, persistences = np.nanmean(np.concatenate(errors, axis=1), axis=1)
    assert mine < 0.9 * persistences


def test_what_numpy_trains_onnxruntime_runs_and_the_same_seed_gives_the_same() -> None:
    networks = trained(homes=1)
    content = export(networks, {})
    assert export(trained(homes=1), {}) == content
    session = onnxruntime.InferenceSession(content)
    home = fontana_year(9)
    for quantity, series in (("load", home.load_w), ("sun", home.pv_w)):
        seen = features(series[:HISTORY], weekday=0, quarter=0, peak=quantity == "sun")
        assert seen is not None
        said = say(session, quantity, seen.rows)
        assert said == pytest.approx(networks[quantity](seen.rows), abs=1e-4)
        assert said.max() > 0.1


def test_features_know_only_what_lay_before_and_fill_holes() -> None:
    series = fontana_year(4).load_w[: HISTORY + HORIZON].copy()
    whole = features(series[:HISTORY], weekday=0, quarter=0, peak=False)
    series[HISTORY:] = 1e9
    again = features(series[:HISTORY], weekday=0, quarter=0, peak=False)
    assert whole is not None
    assert again is not None
    assert (whole.rows == again.rows).all()
    series[HISTORY - 3 * DAY : HISTORY - DAY] = np.nan
    series[: 14 * DAY] = np.nan
    holed = features(series[:HISTORY], weekday=0, quarter=0, peak=False)
    assert holed is not None
    assert np.isfinite(holed.rows).all()
    assert features(np.full(HISTORY, np.nan), weekday=0, quarter=0, peak=False) is None
    assert features(np.zeros(HISTORY), weekday=0, quarter=0, peak=True) is None, "there is no sun at this site"
