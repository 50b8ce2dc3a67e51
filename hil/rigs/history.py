"""A home's recorded past as the file `vpp-cloud history import` takes.

What the home's own meter would have written before the run: load and PV energy of each quarter-hour, from the same
minutes the plant lives, so that history and run are one home. The recording's hour of day stays where it was.
"""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from hil.data.recordings import fontana_home
from hil.plant.household import RecordedHousehold
from hil.rigs.recorded import RecordedTime
from hil.rigs.scenario import ScenarioHome, load

QUARTER: Final = timedelta(minutes=15)


def household(home: ScenarioHome, recorded: RecordedTime) -> RecordedHousehold:
    """The recorded load and PV of a home, in this run's time."""
    return RecordedHousehold(
        fontana_home(home.recorded_home),
        offset_ms=recorded.offset_ms(days_earlier=home.days_earlier),
        pv_rating_w=home.rating.pv_w,
        seed=home.seed,
    )


def write_history_csv(site_index: int, folder: Path, now: datetime, days: int = 14) -> Path:
    """Writes the `days` before `now`'s quarter-hour of a running rig's home; returns the file.

    `folder` is the rig's, where its rig.json names scenario and recorded start. Columns: utc_start (ISO), interval_s,
    load_wh, pv_wh (three decimals). Raises OSError if the rig has not written its rig.json yet.
    """
    served = json.loads((folder / "rig.json").read_text(encoding="utf-8"))
    scenario = load(served["scenario"])
    recorded = RecordedTime(datetime.fromisoformat(served["recorded_start_utc"]), scenario.recorded.start)
    home = scenario.home(site_index)
    lived = household(home, recorded)
    end = now.astimezone(UTC)
    end = end.replace(minute=end.minute // 15 * 15, second=0, microsecond=0)
    path = folder / f"{home.site}.history.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("utc_start", "interval_s", "load_wh", "pv_wh"))
        start = end - timedelta(days=days)
        while start < end:
            from_ms, to_ms = start.timestamp() * 1000.0, (start + QUARTER).timestamp() * 1000.0
            load_wh, pv_wh = lived.load_energy_wh(from_ms, to_ms), lived.pv_energy_wh(from_ms, to_ms)
            rows.writerow((start.isoformat(), 900, f"{load_wh:.3f}", f"{pv_wh:.3f}"))
            start += QUARTER
    return path


def read_quarters(path: Path) -> dict[int, tuple[float, float]]:
    """What `write_history_csv` wrote, as an agent keeps it: mean load and sun [W] by the quarter hour's UTC second."""
    with path.open(encoding="utf-8", newline="") as file:
        return {
            round(datetime.fromisoformat(row["utc_start"]).timestamp()): (
                float(row["load_wh"]) * 4.0,
                float(row["pv_wh"]) * 4.0,
            )
            for row in csv.DictReader(file)
        }
