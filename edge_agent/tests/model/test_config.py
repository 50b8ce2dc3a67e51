"""A configuration is read whole or refused with file, key and remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.model.config import SerialSettings, load
from protos.settings import SettingsError

GOOD = """\
site = "home-01"
data_dir = "state/home-01"

[coordinator]
claim_file = "home-01.claim.toml"

[control]
rate_hz = 20.0
soc_min = 0.2

[[devices]]
name = "hybrid"
driver = "sunspec"
host = "127.0.0.1"
port = 15020
"""

Change = Callable[[str], str]


def swap(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def test_paths_are_relative_to_the_file_and_defaults_apply(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(GOOD)
    config = load(file)
    assert config.data_dir == tmp_path / "state/home-01"
    assert config.coordinator.claim_file == tmp_path / "home-01.claim.toml"
    assert (config.control.rate_hz, config.control.soc_min, config.control.soc_max) == (20.0, 0.2, 0.95)
    assert config.control.default == "self-consumption"
    device = config.devices[0]
    assert (device.port, device.unit_id, device.timeout_s, device.read_only) == (15020, 1, 0.25, False)


def test_absolute_paths_stay(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(GOOD.replace('"state/home-01"', '"/var/lib/vpp/home-01"'))
    assert load(file).data_dir == Path("/var/lib/vpp/home-01")


@pytest.mark.parametrize(
    ("change", "key", "remedy"),
    [
        pytest.param(swap("rate_hz", "rate_hs"), "$.control.rate_hs", "did you mean rate_hz?", id="typing error"),
        pytest.param(swap("site =", "siet ="), "$.siet", "did you mean site?", id="typing error at the top"),
        pytest.param(
            swap("host =", "adress ="), "$.devices[0].adress", "known: name, driver, profile, host", id="unknown"
        ),
        pytest.param(swap("rate_hz = 20.0", "rate_hz = 100"), "$.control.rate_hz", "10 to 50", id="too fast"),
        pytest.param(swap("rate_hz = 20.0", "rate_hz = nan"), "$.control.rate_hz", "10 to 50", id="not a number"),
        pytest.param(swap("20.0", '"fast"'), "$.control.rate_hz", "cycles a second", id="wrong type"),
        pytest.param(swap('"home-01"', '"Home 1"'), "$.site", "a-z 0-9", id="site name that a subject cannot hold"),
        pytest.param(swap('data_dir = "state/home-01"\n', ""), "$.data_dir", "is missing", id="missing key"),
        pytest.param(swap('"state/home-01"', "7"), "$.data_dir", "a folder", id="path that is none"),
        pytest.param(swap('"sunspec"', '"modbus"'), "$.devices[0].driver", '"sunspec"', id="unknown driver"),
        pytest.param(swap("15020", "150200"), "$.devices[0].port", "1 to 65535", id="port out of range"),
        pytest.param(swap("soc_min = 0.2", "soc_min = 0.97"), "$.control.soc_min", "soc_max 0.95", id="limits crossed"),
        pytest.param(
            swap("soc_min = 0.2", "backup_reserve = 0.92"),
            "$.control.backup_reserve",
            "soc_max 0.95",
            id="all reserved",
        ),
        pytest.param(
            swap("soc_min = 0.2", "export_limit_w = -1"), "$.control.export_limit_w", "0 to 10000000", id="limit"
        ),
        pytest.param(
            swap("port = 15020", "frequency_only = true\nfrequency_priority = 0"),
            "$.devices[0].frequency_only",
            "leave out one",
            id="a source that is never used",
        ),
        pytest.param(
            swap("port = 15020", 'meter_positive = "both"'),
            "$.devices[0].meter_positive",
            "towards the grid",
            id="sign",
        ),
        pytest.param(
            swap("port = 15020", "volt_var = [[92, 44]]"), "$.devices[0].volt_var", "2 to 20 points", id="short curve"
        ),
        pytest.param(
            swap("port = 15020", "local_droop = { droop_under = 3 }"),
            "$.devices[0].local_droop.droop_under",
            "0.005 to 0.5",
            id="droop out of range",
        ),
        pytest.param(
            swap('driver = "sunspec"', 'driver = "profile"\nprofile = "relay"\nlocal_droop = {}'),
            "$.devices[0].local_droop",
            "leave it out",
            id="droop of a profile",
        ),
        pytest.param(
            swap('driver = "sunspec"', 'driver = "profile"\nprofile = "relay"\nmeter_positive = "import"'),
            "$.devices[0].meter_positive",
            "leave it out",
            id="sign of a profile",
        ),
        pytest.param(lambda text: text.split("[[")[0], "$.devices", "at least one table", id="no device"),
        pytest.param(
            lambda text: text + text[text.index("[[") :], "$.devices[...].name", "given twice", id="two of one name"
        ),
        pytest.param(
            lambda text: text + text[text.index("[[") :].replace("hybrid", "other"),
            "$.devices[...].host",
            "127.0.0.1:15020 unit 1",
            id="two at one address",
        ),
        pytest.param(swap('host = "127.0.0.1"\n', ""), "$.devices[0].host", 'serial = "/dev/ttyUSB0"', id="no address"),
        pytest.param(swap("port =", 'serial = "/dev/ttyUSB0"\nport ='), "$.devices[0].serial", "beside host", id="two"),
        pytest.param(
            swap('host = "127.0.0.1"', 'serial = "/dev/ttyUSB0"'),
            "$.devices[0].port",
            "leave it out",
            id="port of a tty",
        ),
        pytest.param(
            swap("port = 15020", "baudrate = 9600"), "$.devices[0].baudrate", "give serial", id="baudrate of a host"
        ),
        pytest.param(
            swap("port = 15020", 'profile = "x"'), "$.devices[0].profile", 'driver = "profile"', id="profile of sunspec"
        ),
        pytest.param(
            swap('"sunspec"', '"profile"'), "$.devices[0].profile", "huawei-sun2000", id="profile driver without one"
        ),
        pytest.param(
            lambda text: (
                text.split("[[")[0]
                + "".join(
                    f'[[devices]]\nname = "d{unit}"\ndriver = "sunspec"\nserial = "/dev/ttyS0"\nunit_id = {unit}\n'
                    f"baudrate = {9600 * unit}\n"
                    for unit in (1, 2)
                )
            ),
            "$.devices[1].baudrate",
            "/dev/ttyS0 is spoken with 9600 baud",
            id="two rates on one line",
        ),
        pytest.param(swap("[control]", "[control"), "line 7", "is not TOML", id="not TOML"),
    ],
)
def test_refusal_names_file_key_and_remedy(tmp_path: Path, change: Change, key: str, remedy: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(change(GOOD))
    with pytest.raises(SettingsError) as refused:
        load(file)
    message = str(refused.value)
    assert message.startswith(f"{file}: ")
    assert key in message
    assert remedy in message
    assert "\n" not in message


def test_a_serial_line_and_a_profile_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    serial = 'driver = "profile"\nprofile = "own/meter.toml"\nserial = "/dev/ttyUSB0"\nparity = "even"\n'
    file.write_text(GOOD.split("driver")[0] + serial)
    device = load(file).devices[0]
    assert device.where == "/dev/ttyUSB0"
    assert device.serial_settings == SerialSettings(baudrate=9600, parity="even", stop_bits=1)
    assert device.profile == str(tmp_path / "own/meter.toml")


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read \(No such file"):
        load(tmp_path / "nowhere.toml")


def test_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        load(file)


CHARGER = """
[[devices]]
name = "wallbox"
driver = "profile"
profile = "keba-p30"
host = "127.0.0.2"

[devices.ev_charger]
max_current_a = 16
phases = 3
"""
LOAD = """
[[devices]]
name = "tank"
driver = "profile"
profile = "relay-coil"
host = "127.0.0.3"

[devices.flexible_load]
power_w = 2000
"""


@pytest.mark.parametrize(
    ("added", "told"),
    [
        (CHARGER + 'ready_by = "07:00"\n', "ev_charger.energy_wh: is missing; give both"),
        (CHARGER + 'ready_by = "07:00"\nenergy_wh = 12000\n', "ev_charger.ready_by: is a local time; give time_zone"),
        (CHARGER + 'ready_by = "7:00"\n', "ev_charger.ready_by"),
        (CHARGER.replace("= 16", "= 5"), "amperes a phase, 6 to 80"),
        (CHARGER + "fallback_current_a = 20\n", "is above max_current_a 16; lower it"),
        (LOAD + "comfort_min_c = 40\n", "flexible_load.comfort_max_c: is missing"),
        (LOAD + "comfort_min_c = 40\ncomfort_max_c = 41\n", "is not 2 K above comfort_min_c 40"),
        (LOAD + "max_off_s = 60\n", "max_off_s: 60 is below min_off_s 600"),
        (LOAD.replace('"profile"\nprofile = "relay-coil"', '"sunspec"'), 'means nothing with driver = "sunspec"'),
    ],
)
def test_chargers_and_loads_that_cannot_be_kept(tmp_path: Path, added: str, told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(written(tmp_path, GOOD + added))
    assert told in str(refused.value)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    return file


def test_an_unknown_time_zone_is_refused_and_a_known_one_makes_a_time_of_day(tmp_path: Path) -> None:
    zoned = GOOD.replace('site = "home-01"', 'site = "home-01"\ntime_zone = "Europe/Berlin"')
    config = load(written(tmp_path, zoned + CHARGER + 'ready_by = "07:00"\nenergy_wh = 12000\n'))
    assert config.devices[-1].ev_charger is not None
    assert config.devices[-1].ev_charger.energy_wh == 12_000.0
    with pytest.raises(SettingsError, match="time_zone: 'Europe/Barlin' is not known here"):
        load(written(tmp_path, zoned.replace("Berlin", "Barlin")))
