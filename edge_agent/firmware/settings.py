"""Settings: JSON in flash over the defaults here, refused whole if a key or a value is wrong."""

import json

# 48.9 to 51.1 Hz at 100 %: a plain droop of 2 % outside 0.2 Hz, until somebody sets a service.
DEFAULT = {
    "program": "meter",
    "unit": 1,
    "baud": 115200,
    "serial": "unset",
    "rate_hz": 4000,
    "nominal_hz": 50,
    "nominal_v": 230,
    "microvolt_per_count": 19_000,
    "rate_ppb": 0,
    "update_key": "",  # whose firmware is taken: an Ed25519 public key in 64 hex digits; none: nobody's
    "button_s": 3600,  # for how long the push-button's word holds
    "sensor": {"kind": "none", "series_ohm": 10_000, "r25_ohm": 10_000, "beta_k": 3950},
    "relay": {
        "service": "stages",
        "knots_uhz_ppm": [-1_000_000, 1_000_000, -200_000, 0, 200_000, 0, 1_000_000, -1_000_000],
        "under_uhz": 49_000_000,
        "return_uhz": 49_900_000,
        "delay_ms": 200,
        "spread_ms": 500,
        "return_ms": 60_000,
        "return_spread_ms": 300_000,
        "least_on_ms": 10_000,
        "least_off_ms": 10_000,
        "hottest_dc": 800,
        "coldest_dc": 400,
        "most_switched_an_hour": 20,
        "rest_on": True,
    },
}
_RANGES = {
    "unit": (1, 247),
    "baud": (1200, 1_000_000),
    "rate_hz": (400, 4000),
    "nominal_hz": (50, 60),
    "nominal_v": (80, 300),
    "microvolt_per_count": (1, 500_000),
    "rate_ppb": (-500_000, 500_000),
    "button_s": (1, 65534),
    "series_ohm": (100, 1_000_000),
    "r25_ohm": (100, 1_000_000),
    "beta_k": (1000, 10_000),
    "under_uhz": (45_000_000, 65_000_000),
    "return_uhz": (45_000_000, 65_000_000),
    "delay_ms": (0, 600_000),
    "spread_ms": (0, 3_600_000),
    "return_ms": (0, 3_600_000),
    "return_spread_ms": (0, 3_600_000),
    "least_on_ms": (0, 3_600_000),
    "least_off_ms": (0, 3_600_000),
    "hottest_dc": (-500, 3000),
    "coldest_dc": (-500, 3000),
    "most_switched_an_hour": (2, 3600),
}
_CHOICES = {"program": ("meter", "relay"), "service": ("curve", "stages"), "kind": ("none", "ds18b20", "thermistor")}


class SettingsError(ValueError):
    """Settings that cannot be used; says which key and why."""


def load(raw):
    """Settings out of the text in flash, the defaults where there is none. Raises SettingsError."""
    try:
        given = json.loads(raw) if raw else {}
    except ValueError:
        raise SettingsError("the settings are no JSON") from None
    return _merge(DEFAULT, given, "")


def _merge(defaults, given, where):
    if not isinstance(given, dict):
        raise SettingsError(where + " is no table")
    for key in given:
        if key not in defaults:
            raise SettingsError(where + key + " is no setting")
    merged = {}
    for key in defaults:
        value = given.get(key, defaults[key])
        if isinstance(defaults[key], dict):
            value = _merge(defaults[key], value, where + key + ".")
        else:
            _check(key, value, where + key)
        merged[key] = value
    if "under_uhz" in merged and merged["return_uhz"] < merged["under_uhz"]:
        raise SettingsError(where + "return_uhz is below under_uhz")
    if "hottest_dc" in merged and merged["coldest_dc"] >= merged["hottest_dc"]:
        raise SettingsError(where + "coldest_dc is not below hottest_dc")
    return merged


def _check(key, value, name):
    if key in _RANGES:
        low, high = _RANGES[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise SettingsError("%s is not between %d and %d" % (name, low, high))
        if key == "rate_hz" and value % 400:
            raise SettingsError(name + " is no multiple of 400")
        if key == "nominal_hz" and value not in (50, 60):
            raise SettingsError(name + " is neither 50 nor 60")
    elif key in _CHOICES:
        if value not in _CHOICES[key]:
            raise SettingsError(name + " is not one of " + ", ".join(_CHOICES[key]))
    elif key == "update_key":
        if not isinstance(value, str) or len(value) not in (0, 64) or value.strip("0123456789abcdef"):
            raise SettingsError(name + " is no Ed25519 public key in 64 hex digits")
    elif key == "knots_uhz_ppm":
        _check_knots(value, name)
    elif key == "rest_on":
        if not isinstance(value, bool):
            raise SettingsError(name + " is neither true nor false")
    elif not isinstance(value, str) or len(value) > 32:
        raise SettingsError(name + " is no text of at most 32 letters")


def _check_knots(knots, name):
    good = isinstance(knots, list) and len(knots) >= 4 and len(knots) % 2 == 0
    good = good and all(isinstance(number, int) for number in knots)
    good = good and all(knots[i] < knots[i + 2] for i in range(0, len(knots) - 2, 2))
    good = good and all(abs(number) <= 10_000_000 for number in knots[::2])
    if not (good and all(abs(number) <= 1_000_000 for number in knots[1::2])):
        raise SettingsError(name + " is no list of rising deviations in uHz, each followed by a share in ppm")
