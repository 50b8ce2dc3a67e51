"""What vehicles have got, over restarts."""

import math
from pathlib import Path

import pytest

from edge_agent.control.stay import Stay, Wants
from edge_agent.runtime.stay_memory import FILE, SAME_VEHICLE_MS, StayMemory

T0_MS = 1_790_000_000_000
STAY = Stay(
    at_s=50.0,
    plugged=True,
    drawn_wh=4_200.0,
    session_wh=4_300.0,
    wants=Wants(energy_wh=9_000.0, ready_at_ms=T0_MS + 3_600_000),
    share=0.7,
)


def kept(folder: Path, stay: Stay) -> StayMemory:
    """Another start's memory, after one that kept a stay."""
    first = StayMemory(folder)
    first.keep("wallbox", stay, 50.0, T0_MS)
    first.close()
    return StayMemory(folder)


@pytest.mark.parametrize(
    ("later_ms", "drawn_wh"),
    [(0, 4_200.0), (SAME_VEHICLE_MS, 4_200.0), (SAME_VEHICLE_MS + 1, 0.0), (-1, 0.0)],
)
def test_a_stay_goes_on_after_a_short_restart_and_its_share_after_any(
    tmp_path: Path, later_ms: int, drawn_wh: float
) -> None:
    again = kept(tmp_path, STAY)
    tomorrow = Wants(energy_wh=9_000.0, ready_at_ms=T0_MS + 3_600_000 + 86_400_000)
    stay = again.recall("wallbox", tomorrow, 7.0, T0_MS + later_ms)
    assert (stay.at_s, stay.drawn_wh, stay.share) == (7.0, drawn_wh, 0.7)
    assert stay.wants == (STAY.wants if drawn_wh else None), "it was to be ready today"
    assert again.recall("another", tomorrow, 7.0, T0_MS) == Stay(at_s=7.0)
    again.close()


@pytest.mark.parametrize(
    "wish",
    [
        None,
        Wants(energy_wh=9_500.0, ready_at_ms=T0_MS + 3_600_000),
        Wants(energy_wh=9_000.0, ready_at_ms=T0_MS + 3 * 3_600_000),
    ],
    ids=["none any more", "more", "later"],
)
def test_an_owner_who_has_changed_his_wish_is_heard(tmp_path: Path, wish: Wants | None) -> None:
    again = kept(tmp_path, STAY)
    stay = again.recall("wallbox", wish, 7.0, T0_MS)
    assert (stay.wants, stay.drawn_wh) == (wish, 4_200.0)
    again.close()


def test_who_left_is_not_remembered(tmp_path: Path) -> None:
    again = kept(tmp_path, Stay(at_s=50.0, share=0.5))
    stay = again.recall("wallbox", None, 7.0, T0_MS)
    assert (stay.plugged, stay.share) == (False, 0.5)
    assert math.isnan(stay.session_wh)
    again.close()


def test_what_cannot_be_read_counts_from_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_text("half a li")
    memory = StayMemory(tmp_path)
    assert memory.recall("wallbox", None, 7.0, T0_MS) == Stay(at_s=7.0)
    assert "counted from nothing" in caplog.text
    memory.close()
