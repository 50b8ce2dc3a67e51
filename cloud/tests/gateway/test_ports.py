"""Ports: as configured, or chosen once and kept."""

from pathlib import Path

import pytest

from cloud.gateway.ports import PortError, Ports, free_port, listening_socket

HOST = "127.0.0.1"


def test_chosen_port_is_kept_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    chosen = {name: Ports(path, HOST).resolve(name, 0) for name in ("broker_port", "site_port", "console_port")}
    assert len(set(chosen.values())) == 3
    assert {name: Ports(path, HOST).resolve(name, 0) for name in chosen} == chosen


def test_two_parts_are_never_given_one_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([free_port(HOST)] * 3 + [free_port(HOST) for _ in range(5)])
    monkeypatch.setattr("cloud.gateway.ports._DRAW.randrange", lambda *_: next(drawn))
    ports = Ports(tmp_path / "ports.json", HOST)
    assert ports.resolve("site_port", 0) != ports.resolve("broker_port", 0)


def test_chosen_port_is_none_the_system_gives_to_outgoing_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 <= free_port(HOST) < first for _ in range(20))


def test_configured_port_is_taken_and_not_remembered(tmp_path: Path) -> None:
    port = free_port(HOST)
    assert Ports(tmp_path / "ports.json", HOST).resolve("broker_port", port) == port
    assert not (tmp_path / "ports.json").exists()


def test_configured_port_in_use_is_refused_naming_port_and_key(tmp_path: Path) -> None:
    with listening_socket(HOST, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=rf"port {port} on {HOST} \(listen.broker_port\) is in use"):
            Ports(tmp_path / "ports.json", HOST).resolve("broker_port", port)


def test_remembered_port_in_use_is_refused_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    port = Ports(path, HOST).resolve("broker_port", 0)
    before = path.read_text()
    with listening_socket(HOST, port), pytest.raises(PortError, match=r"remembered in .*ports\.json"):
        Ports(path, HOST).resolve("broker_port", 0)
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["", "[]", '{"broker_port": "x"}', '{"broker_port": 0}', '{"broker_port": 70000}'])
def test_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    with pytest.raises(PortError, match=r"ports\.json"):
        Ports(tmp_path / "ports.json", HOST).resolve("broker_port", 0)


def test_address_of_another_machine_is_refused_naming_the_key(tmp_path: Path) -> None:
    with pytest.raises(PortError, match=r"192\.0\.2\.1.*listen\.host"):  # TEST-NET-1, RFC 5737
        Ports(tmp_path / "ports.json", "192.0.2.1").resolve("broker_port", 0)
