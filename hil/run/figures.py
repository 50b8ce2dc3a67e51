"""The report's plots, drawn by matplotlib as SVG text, and the README's picture as PNG."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from hil.run.results import Results, Series

INK, SOFT, GRID = "#1c2733", "#6b7a89", "#dde3ea"
POWER, PROMISED, BASELINE, FREQUENCY = "#0b6e99", "#d9730d", "#9aa5b1", "#37415c"
HUES = ("#0b6e99", "#7b4fa3", "#2e7d4f", "#b3541e")
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "murmuration",
}


def figures(results: Results) -> dict[str, str]:
    """Name -> SVG element, ready to stand inside HTML."""
    drawn = {}
    with _style():
        for name, draw in (
            ("frequency", _frequency_figure),
            ("power", _power_figure),
            ("answers", _answers_figure),
            ("responses", _responses_figure),
            ("homes", _homes_figure),
        ):
            drawn[name] = _svg(draw(results))
    return drawn


def picture(results: Results, path: Path) -> None:
    """Frequency and fleet power of the event as one small PNG."""
    with _style():
        figure = Figure(figsize=(8.0, 4.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.3))
        _draw_frequency(upper, results)
        _draw_power(lower, results)
        _zoom(results.fleet, upper, lower)
        lower.set_xlabel("seconds from the start of the recording")
        figure.savefig(path, dpi=110, pil_kwargs={"optimize": True})


def _frequency_figure(results: Results) -> Figure:
    figure = Figure(figsize=(9.6, 2.6), layout="constrained")
    axes = figure.subplots()
    _draw_frequency(axes, results)
    axes.set_xlabel("seconds from the start of the recording")
    return figure


def _power_figure(results: Results) -> Figure:
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    axes = figure.subplots()
    _draw_power(axes, results)
    axes.set_xlabel("seconds from the start of the recording")
    return figure


def _draw_frequency(axes: Any, results: Results) -> None:
    fleet = results.fleet
    axes.plot(fleet.t_s, fleet.frequency_hz, color=FREQUENCY, label="measured, mean of the homes")
    for hue, (service, hz) in zip(HUES, sorted(results.thresholds_hz.items()), strict=False):
        axes.axhline(hz, color=hue, linestyle=(0, (4, 3)), linewidth=1, label=f"{service} acts from {hz:g} Hz")
    axes.set_ylabel("grid frequency [Hz]")
    axes.legend(loc="lower left", ncols=3, fontsize=8)
    low = np.nanmin(fleet.frequency_hz)
    axes.set_ylim(low - 0.08, max(60.03, np.nanmax(fleet.frequency_hz) + 0.02))


def _draw_power(axes: Any, results: Results) -> None:
    fleet = results.fleet
    axes.plot(fleet.t_s, fleet.baseline_w / 1000, color=BASELINE, label="schedule")
    axes.plot(fleet.t_s, fleet.promised_w / 1000, color=PROMISED, linewidth=4.5, alpha=0.45, label="promised")
    axes.plot(fleet.t_s, fleet.power_w / 1000, color=POWER, label="delivered")
    axes.set_ylabel("fleet power [kW], + to the grid")
    axes.legend(loc="upper left", ncols=3, fontsize=8)
    axes.margins(y=0.18)


def _answers_figure(results: Results) -> Figure:
    figure = Figure(figsize=(9.6, 2.8), layout="constrained")
    axes = figure.subplots()
    for number, answer in enumerate(results.answers):
        axes.plot(answer.t_ms, answer.share, color=POWER, linewidth=1, label=None if number else "each home, delivered")
    limits = {answer.full_within_ms for answer in results.answers}
    for limit_ms in limits:
        axes.axvline(limit_ms, color=PROMISED, linestyle=(0, (4, 3)), label=f"all of it due: {limit_ms:.0f} ms")
    axes.set_xlabel("from the crossing of the threshold at the device [ms]")
    axes.set_ylabel("share of contract")
    if limits:
        axes.legend(loc="lower right", fontsize=8)
    return figure


def _responses_figure(results: Results) -> Figure:
    figure = Figure(figsize=(9.6, 2.6), layout="constrained")
    axes = figure.subplots()
    everything = results.responses_ms()
    if everything.size:
        bins = np.linspace(0, max(100.0, float(everything.max()) * 1.05), 41)
        names = sorted(results.services)
        axes.hist(
            [results.responses_ms(name) for name in names],
            bins=bins,  # type: ignore[arg-type]
            stacked=True,
            color=list(HUES[: len(names)]),
            label=names,
        )
        axes.legend(loc="upper right", fontsize=8)
    axes.set_xlabel("from the crossing at the device to its power register having moved [ms]")
    axes.set_ylabel("crossings")
    return figure


def _homes_figure(results: Results) -> Figure:
    columns = 4
    rows = max(1, -(-len(results.per_home) // columns))
    figure = Figure(figsize=(9.6, 1.55 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axes, home in zip(panels, results.per_home, strict=False):
        axes.plot(home.t_s, home.promised_w / 1000, color=PROMISED, linewidth=4.5, alpha=0.45)
        axes.plot(home.t_s, home.power_w / 1000, color=POWER, linewidth=1)
        axes.set_title(f"{home.site}  {home.service_id}", fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
    for axes in panels[len(results.per_home) :]:
        axes.set_visible(False)
    figure.supylabel("power [kW]: promised and delivered", fontsize=8)
    _zoom(results.fleet, *panels)
    return figure


def _zoom(fleet: Series, *axes: Any) -> None:
    """Shows the event and some seconds around it."""
    acting = np.flatnonzero(np.abs(fleet.promised_w - fleet.baseline_w) > 1.0)
    if acting.size:
        first, last = fleet.t_s[acting[0]], fleet.t_s[acting[-1]]
        for each in axes:
            each.set_xlim(max(fleet.t_s[0], first - 15), min(fleet.t_s[-1], last + 10))


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        yield


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
