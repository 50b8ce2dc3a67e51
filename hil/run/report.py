"""The report of a run: one self-contained HTML file, and the lines that a person reads at the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import jinja2
import numpy as np

from hil.run.figures import figures
from hil.run.results import Results

RESPONSE_DEFINITION: Final = (
    "for a trigger, from the instant the frequency at the device crossed the threshold to the instant its power "
    "register had moved by 1 % of the contracted power; for a droop, from the instant the service's own law (its lag "
    "included) asked for each further 10 W, moving at least 20 W/s, to the instant the register showed them. The "
    "inverter's own lag and ramp are included."
)


def write_report(results: Results, path: Path) -> None:
    """Writes the HTML file: no script, nothing loaded from anywhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    homes = results.homes
    page = environment.get_template("report.html").render(
        r=results,
        svg=figures(results),
        failures=results.failures,
        cards=list(_cards(results)),
        response_definition=RESPONSE_DEFINITION,
        response_rows=list(_response_rows(results)),
        sums={
            "capacity": sum(h.capacity_amount for h in homes),
            "energy": sum(h.energy_amount for h in homes),
        },
    )
    path.write_text(page, encoding="utf-8")


def summary(results: Results) -> str:
    """What a person wants to know, as text."""
    lines = [
        f"{'home':<9}{'service':<16}{'contracted':>11}{'plan':>9}{'promised':>10}{'delivered':>11}"
        f"{'error':>8}{'score':>7}{results.currency:>9}"
    ]
    lines += [
        f"{h.site:<9}{h.service_id:<16}{h.contracted_w:>9} W{h.plan_w:>+7.0f} W{h.promised_w:>+8.0f} W"
        f"{h.delivered_w:>+9.0f} W{100 * h.performance_error:>6.2f} %{h.performance_factor:>7.3f}{h.total_amount:>9}"
        for h in results.homes
    ]
    lines.append(
        f"{'sum':<25}{sum(h.contracted_w for h in results.homes):>9} W"
        f"{sum(h.plan_w for h in results.homes):>+7.0f} W{sum(h.promised_w for h in results.homes):>+8.0f} W"
        f"{sum(h.delivered_w for h in results.homes):>+9.0f} W{'':>15}{results.total_amount:>9}"
    )
    lines.append("")
    for row in _response_rows(results):
        lines.append(
            f"response, {row['service']}: median {row['p50']}, 99 % {row['p99']}, largest {row['max']} "
            f"({row['count']} crossings, taken at the device)"
        )
    book = results.book
    lines.append(
        f"telemetry: {book.sent} frames sent, {book.stored} stored once, {book.missing} missing, "
        f"{book.thinned} merged into others at the gateways, {book.duplicate} duplicate; "
        f"{book.bytes_per_value_wire:.2f} bytes a value on the wire, "
        f"{book.bytes_per_value_disk:.2f} on disk"
    )
    return "\n".join(lines)


def _cards(results: Results) -> Iterator[tuple[str, str]]:
    yield "lowest frequency", f"{np.nanmin(results.fleet.frequency_hz):.3f} Hz"
    yield "reserve awarded", f"{sum(h.contracted_w for h in results.homes) / 1000:.1f} kW"
    yield "largest response owed", f"{np.nanmax(results.fleet.promised_w - results.fleet.baseline_w) / 1000:+.2f} kW"
    responses = results.responses_ms()
    if responses.size:
        yield "response, median of all", f"{np.median(responses):.0f} ms"
    yield "paid to the homes", f"{results.total_amount} {results.currency}"
    yield "frames lost or doubled", f"{results.book.missing + results.book.duplicate} of {results.book.sent}"


def _response_rows(results: Results) -> Iterator[dict[str, str]]:
    for service in sorted(results.services):
        times = results.responses_ms(service)
        if times.size:
            p50, p99 = np.percentile(times, [50, 99])
            yield {
                "service": service,
                "count": str(times.size),
                "p50": f"{p50:.0f} ms",
                "p99": f"{p99:.0f} ms",
                "max": f"{times.max():.0f} ms",
            }
