"""The coordinator's configuration: what is accepted, and how each mistake is told."""

from pathlib import Path

import pytest

from cloud.config import CoordinatorConfig, load
from protos.settings import SettingsError

WHOLE = """
[listen]
host = "0.0.0.0"
public_host = "vpp.example.org"
enrolment_port = 7443
site_port = 7444
broker_port = 4222
console_port = 8080
[telemetry]
interval_ms = 1000
[market]
url = "http://127.0.0.1:9000"
currency = "USD"
[[market.offers]]
product = "ffr"
service = "ercot-ffr"
group = "fast"
[[market.offers]]
product = "droop"
service = "ieee1547-droop"
group = "droop"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "coordinator.toml"
    path.write_text(text)
    return path


def test_whole_file(tmp_path: Path) -> None:
    config = load(write(tmp_path, WHOLE))
    assert config.listen.advertised_host == "vpp.example.org"
    assert config.listen.broker_port == 4222
    assert config.telemetry.interval_ms == 1000
    assert config.market is not None
    assert [(offer.product, offer.service, offer.group) for offer in config.market.offers] == [
        ("ffr", "ercot-ffr", "fast"),
        ("droop", "ieee1547-droop", "droop"),
    ]


def test_empty_file_is_loopback_free_ports_and_no_market(tmp_path: Path) -> None:
    config = load(write(tmp_path, ""))
    assert config == CoordinatorConfig()
    assert (config.listen.advertised_host, config.listen.broker_port, config.market) == ("127.0.0.1", 0, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("[listn]", r"\$\.listn: unknown key; did you mean listen\?", id="unknown table"),
        pytest.param(
            "[listen]\nbrokerport = 1", r"\$\.listen\.brokerport: unknown key; did you mean broker_port\?", id="typo"
        ),
        pytest.param("[telemetry]\nxyz = 1", r"\$\.telemetry\.xyz: unknown key; known: interval_ms", id="far off"),
        pytest.param(
            WHOLE + "price = 1", r"\$\.market\.offers\[.*\]\.price: unknown key", id="unknown key in an array"
        ),
        pytest.param("[listen]\nsite_port = 70000", r"\$\.listen\.site_port: .*; give a TCP port", id="port too high"),
        pytest.param("[listen]\nsite_port = '1'", r"\$\.listen\.site_port: .*; give a TCP port", id="port as text"),
        pytest.param(
            "[telemetry]\ninterval_ms = 500", r"\$\.telemetry\.interval_ms: .*; give 100 or 1000", id="interval"
        ),
        pytest.param(
            WHOLE.replace('currency = "USD"', ""), r"\$\.market\.currency: is missing; give three", id="missing"
        ),
        pytest.param(WHOLE.replace("USD", "usd"), r"\$\.market\.currency: .*ISO 4217", id="currency"),
        pytest.param(WHOLE.replace("http://", "ftp://"), r"\$\.market\.url: .*give its address", id="scheme"),
        pytest.param(
            WHOLE.replace('"ercot-ffr"', '"ercot"'), r"offers\[0\]\.service: service 'ercot' is unknown", id="service"
        ),
        pytest.param(WHOLE.replace('"droop"\ns', '"ffr"\ns'), r"offers.*product: 'ffr' is given 2 times", id="twice"),
        pytest.param(WHOLE.replace('public_host = "vpp.example.org"', ""), r"public_host: is missing", id="no address"),
        pytest.param(WHOLE.replace("7444", "7443"), r"\$\.listen: port 7443 is given to 2 servers", id="same port"),
        pytest.param("[listen", r"is not TOML: .*mend that line", id="not TOML"),
    ],
)
def test_mistake_is_told_with_file_key_and_remedy_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError, match=told) as refusal:
        load(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_missing_file_and_binary_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="UTF-8"):
        load(tmp_path / "binary.toml")
