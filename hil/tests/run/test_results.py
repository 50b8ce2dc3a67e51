"""The verdict of a run, and that both the printed summary and the report carry it, from results made by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from hil.run.report import summary, write_report
from hil.run.results import BookKeeping, HomeResult, HomeSeries, Results, Series, TriggerAnswer

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOME = HomeResult(
    site="home-01",
    service_id="ercot-ffr",
    contracted_w=3000,
    plan_w=-2500.0,
    promised_w=3000.0,
    delivered_w=2999.0,
    energy_wh=121,
    performance_error=0.0007,
    performance_factor=Decimal("0.9996"),
    delivered=True,
    capacity_amount=Decimal("0.09"),
    energy_amount=Decimal("0.03"),
    total_amount=Decimal("0.12"),
    responses_ms=(26.0,),
)
OTHER = replace(HOME, site="home-02", service_id="ieee1547-droop", contracted_w=773, responses_ms=(20.0, 40.0))


@pytest.fixture
def results() -> Results:
    t_s = np.arange(-1.0, 2.0, 0.5)
    power_w = np.where(t_s < 0, -5000.0, 1000.0)
    return Results(
        started=START,
        machine="a machine",
        scenario="an event <of old>",
        currency="USD",
        delivery_start=START,
        delivery_end=START + timedelta(minutes=4),
        played_at=START + timedelta(seconds=20),
        prices={"ffr": Decimal("465.3"), "droop": Decimal("465.3")},
        services={"ercot-ffr": "FFR", "ieee1547-droop": "Droop"},
        thresholds_hz={"ercot-ffr": 59.85, "ieee1547-droop": 59.964},
        homes=(HOME, OTHER),
        total_amount=Decimal("0.24"),
        book=BookKeeping(
            thinned=0,
            sent=3066,
            stored=3066,
            missing=0,
            duplicate=0,
            bytes_per_value_wire=2.66,
            bytes_per_value_disk=0.54,
        ),
        fleet=Series(
            t_s=t_s,
            frequency_hz=np.full(t_s.size, 59.8),
            power_w=power_w,
            baseline_w=np.full(t_s.size, -5000.0),
            promised_w=power_w,
        ),
        per_home=tuple(
            HomeSeries(site=h.site, service_id=h.service_id, t_s=t_s, power_w=power_w, promised_w=power_w)
            for h in (HOME, OTHER)
        ),
        answers=(TriggerAnswer(site="home-01", t_ms=t_s * 100, share=np.ones(t_s.size), full_within_ms=250.0),),
    )


def test_a_run_in_which_all_went_well_has_no_failures(results: Results) -> None:
    assert results.failures == []
    assert results.responses_ms().tolist() == [26.0, 20.0, 40.0]
    assert results.responses_ms("ieee1547-droop").tolist() == [20.0, 40.0]


def test_every_way_to_fail_is_named_in_verdict_and_report(results: Results, tmp_path: Path) -> None:
    failed = {
        "home-02 missed its service's limits: mean error 12.3 % of contract": replace(
            results, homes=(HOME, replace(OTHER, delivered=False, performance_error=0.123))
        ),
        "nothing was awarded": replace(results, homes=(), total_amount=Decimal(0)),
        "the homes' amounts do not sum to the settlement": replace(results, total_amount=Decimal("0.25")),
        "2 telemetry frames are missing": replace(results, book=replace(results.book, missing=2)),
        "1 telemetry frames are stored twice": replace(results, book=replace(results.book, duplicate=1)),
    }
    for failure, such in failed.items():
        assert such.failures == [failure]
        report = tmp_path / "report.html"
        write_report(such, report)
        page = report.read_text()
        assert failure.replace("'", "&#39;") in page
        assert "Every home delivered" not in page


def test_summary_and_report_show_every_home_and_escape_what_they_are_given(results: Results, tmp_path: Path) -> None:
    lines = summary(results).splitlines()
    assert " ".join(lines[1].split()) == "home-01 ercot-ffr 3000 W -2500 W +3000 W +2999 W 0.07 % 1.000 0.12"
    assert " ".join(lines[3].split()) == "sum 3773 W -5000 W +6000 W +5998 W 0.24"
    report = tmp_path / "report.html"
    write_report(results, report)
    page = report.read_text()
    assert "Every home delivered" in page
    assert "an event &lt;of old&gt;" in page
    assert "<of old>" not in page
