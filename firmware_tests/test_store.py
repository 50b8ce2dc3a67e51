"""Settings in flash: power fails at any byte, or a byte goes bad, and a valid copy is left."""

from pathlib import Path
from typing import Any

import pytest

from edge_agent import cli


def test_power_may_fail_at_any_byte(on_both: Any, tmp_path: Path) -> None:
    before, found = on_both("power_cut.py", tmp_path)
    assert before is None
    assert found.pop("third") == 1
    assert found.pop("fourth") == 1
    assert list(found) == ["second, and longer"]
    assert found["second, and longer"] == 3 * 25  # three kinds of damage at each byte of the newest copy


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "the settings are no JSON"),
        ('{"unit": 0}', "unit is not between 1 and 247"),
        ('{"unit": true}', "unit is not between 1 and 247"),
        ('{"rate_hz": 1000}', "rate_hz is no multiple of 400"),
        ('{"colour": 1}', "colour is no setting"),
        ('{"relay": {"under": 1}}', "relay.under is no setting"),
        ('{"relay": {"service": "x"}}', "relay.service is not one of"),
        ('{"relay": {"return_uhz": 48000000}}', "relay.return_uhz is below under_uhz"),
        ('{"relay": {"coldest_dc": 900}}', "relay.coldest_dc is not below hottest_dc"),
        ('{"relay": {"knots_uhz_ppm": [0, 0, 0, 1]}}', "relay.knots_uhz_ppm is no list of rising deviations"),
        ("[]", " is no table"),
    ],
)
def test_wrong_settings_are_refused_by_name(on_both: Any, tmp_path: Path, text: str, complaint: str) -> None:
    program = tmp_path / "load.py"
    program.write_text(
        "import json, settings\n"
        "try:\n"
        f"    settings.load({text!r})\n"
        "except settings.SettingsError as error:\n"
        "    print(json.dumps(str(error)))\n"
    )
    assert on_both(program)[0].startswith(complaint)


def test_settings_are_checked_and_written_as_the_node_reads_them(on_both: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "mine.json").write_text('{"unit": 9, "sensor": {"kind": "ds18b20"}}')
    output = tmp_path / "settings.0"
    assert cli.main(["firmware", "settings", str(tmp_path / "mine.json"), "--output", str(output)]) == 0
    program = tmp_path / "load.py"
    program.write_text(
        "import json, settings\nfrom store import Store\n"
        f"found = settings.load(Store({str(tmp_path)!r}, 'settings').load())\n"
        "print(json.dumps([found['unit'], found['sensor']['kind'], found['sensor']['beta_k']]))\n"
    )
    assert on_both(program) == [[9, "ds18b20", 3950]]
    (tmp_path / "mine.json").write_text('{"update_key": "ABC"}')
    assert cli.main(["firmware", "settings", str(tmp_path / "mine.json"), "--output", str(output)]) == 2
    assert "update_key is no Ed25519 public key in 64 hex digits" in capsys.readouterr().err


def test_defaults_are_themselves_valid(on_both: Any, tmp_path: Path) -> None:
    program = tmp_path / "load.py"
    program.write_text(
        "import json, settings\nprint(json.dumps(settings.load(json.dumps(settings.DEFAULT)) == settings.DEFAULT))\n"
    )
    assert on_both(program) == [True]
