"""What each home of a run lived and was asked, as a day that `vpp-agent replay` takes."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from cloud.model.records import Description, IntentRecord
from cloud.store.ledger import Ledger
from hil.rigs.recording import DeviceRecording, RigRecording

GRID_S: Final = 0.1


def write_days(recording: RigRecording, ledger: Ledger, folder: Path) -> None:
    """Writes SITE.toml and SITE.csv for each home that told what it is."""
    folder.mkdir(exist_ok=True)
    asked = ledger.intents()
    for site in ledger.sites():
        home = recording.homes.get(site.site)
        if home is not None and site.description is not None:
            _write_day(home, recording, site.description, [i for i in asked if i.site == site.site], folder)


def _write_day(
    home: DeviceRecording, recording: RigRecording, told: Description, asked: list[IntentRecord], folder: Path
) -> None:
    start_ms = home.t_ms[0]
    at_ms = np.arange(start_ms, home.t_ms[-1], GRID_S * 1000)
    columns = {
        "t_s": np.round((at_ms - start_ms) / 1000, 3),
        "frequency_hz": np.round(recording.frequency(at_ms), 4),
        "load_w": np.round(np.interp(at_ms, home.t_ms, home.load_w)),
        "pv_w": np.round(np.interp(at_ms, home.t_ms, home.pv_w)),
    }
    with (folder / f"{home.site}.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    plate = {
        name: getattr(told, name)
        for name in ("rated_power_w", "max_charge_w", "max_discharge_w", "storage_capacity_wh")
    }
    start_utc = datetime.fromtimestamp(start_ms / 1000, UTC)
    text = (
        f"samples = {_toml(f'{home.site}.csv')}\nstart_utc = {start_utc.isoformat()}\n"
        f"soc = {home.soc[0]:.4f}\nnameplate = {_toml(plate)}\n"
    )
    for intent in sorted(asked, key=lambda one: one.issued_ms):
        given_s, from_s, to_s = (
            (ms - start_ms) / 1000 for ms in (intent.issued_ms, intent.valid_from_ms, intent.expires_ms)
        )
        text += (
            f"\n[[intents]]\ngiven_s = {max(0.0, given_s):.3f}\nvalid_from_s = {max(0.0, from_s):.3f}\n"
            f"expires_s = {to_s:.3f}\nasks = {_toml(json.loads(intent.body))}\n"
        )
    (folder / f"{home.site}.toml").write_text(text, encoding="utf-8")


def _toml(value: Any) -> str:
    """A JSON value on one line of TOML."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(part)}' for key, part in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)
