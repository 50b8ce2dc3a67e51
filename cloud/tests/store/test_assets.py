"""Groups and how they nest, devices of sites, tariffs: on both databases."""

from decimal import Decimal

import pytest

from cloud.model.assets import GroupKind, LedgerTariff, Resource, TariffRate
from cloud.model.records import Description
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger

HOUR_MS = 3_600_000


def said(ledger: Ledger, name: str, kind: GroupKind, parent: str | None = None) -> None:
    ledger.set_group(name, kind, parent, 5, "eve")


def test_a_site_is_in_the_groups_that_its_own_stand_in(ledger: Ledger) -> None:
    said(ledger, "region", GroupKind.MARKET_AREA)
    said(ledger, "area", GroupKind.NEIGHBOURHOOD, "region")
    said(ledger, "feeder-1", GroupKind.FEEDER, "area")
    assert ledger.add_site("home-01", ("feeder-1", "fast"), now_ms=6).groups == ("feeder-1", "fast", "area", "region")
    assert ledger.add_site("home-02", ("region", "area"), now_ms=6).groups == ("region", "area")
    assert ledger.parents() == {"area": "region", "feeder-1": "area"}
    assert [(group.name, group.kind, group.parent, group.created_ms) for group in ledger.groups()] == [
        ("area", "neighbourhood", "region", 5),
        ("feeder-1", "feeder", "area", 5),
        ("region", "market-area", None, 5),
    ]
    actions = [(entry.action, entry.subject) for entry in ledger.audit_entries()]
    assert actions[:3] == [("group.set", "region"), ("group.set", "area"), ("group.set", "feeder-1")]


def test_what_is_said_of_a_group_can_be_changed_and_forgotten(ledger: Ledger) -> None:
    said(ledger, "north", GroupKind.PORTFOLIO)
    said(ledger, "feeder-1", GroupKind.FEEDER, "north")
    with pytest.raises(LedgerError, match="feeder-1 stand inside it: remove them first"):
        ledger.remove_group("north", 7, "eve")
    said(ledger, "feeder-1", GroupKind.FEEDER)
    ledger.remove_group("north", 7, "eve")
    assert [group.name for group in ledger.groups()] == ["feeder-1"]
    with pytest.raises(LedgerError, match="nothing is said of it"):
        ledger.remove_group("north", 8, "eve")


def test_a_parent_that_cannot_be_is_refused(ledger: Ledger) -> None:
    said(ledger, "a_1", GroupKind.FEEDER)
    said(ledger, "b", GroupKind.FEEDER, "a_1")
    for name, parent, says in (
        ("c", "nobody", "parent 'nobody' is unknown"),
        ("a_1", "a_1", "circle"),
        ("a_1", "b", "circle"),
        ("No", None, "a-z 0-9"),
    ):
        with pytest.raises(LedgerError, match=says):
            said(ledger, name, GroupKind.FEEDER, parent)
    ledger.add_site("home-01", ("c", "ax1"), now_ms=1)
    with pytest.raises(LedgerError, match=r"1 of its sites are not in 'a_1' \(home-01\)"):
        said(ledger, "c", GroupKind.FEEDER, "a_1")
    ledger.add_site("home-02", ("d", "a_1"), now_ms=1)
    said(ledger, "d", GroupKind.FEEDER, "a_1")


def test_devices_are_those_that_were_told_last(ledger: Ledger) -> None:
    ledger.add_site("home-01", (), now_ms=1)
    told = Description(
        agent_version="1",
        rated_power_w=1,
        max_charge_w=0,
        max_discharge_w=0,
        storage_capacity_wh=0,
        soc_min=0,
        soc_max=1,
    )
    hybrid = Resource(
        site="home-01",
        name="hybrid",
        manufacturer="M",
        model="H5",
        serial="1",
        sunspec_models=(1, 701, 704),
        rated_power_w=5000.0,
        max_charge_w=4800.0,
        max_discharge_w=4900.0,
        storage_capacity_wh=13_500.0,
    )
    meter = Resource(site="home-01", name="meter", manufacturer="M", model="Z", serial="2")
    ledger.set_description("home-01", told, 1, [hybrid, meter])
    assert ledger.resources("home-01") == [hybrid, meter]
    ledger.set_description("home-01", told, 2, [hybrid])
    assert ledger.resources() == [hybrid]


def rate(tariff: str, hour: int, price: str) -> TariffRate:
    return TariffRate(
        tariff=tariff, start_ms=hour * HOUR_MS, import_price=Decimal(price), export_price=Decimal(price) / 2
    )


def test_rates_of_a_tariff_are_kept_exactly_and_replaced_by_instant(ledger: Ledger) -> None:
    retail = LedgerTariff(name="retail", currency="EUR", interval_ms=HOUR_MS, created_ms=9)
    ledger.import_tariff(retail, [rate("retail", hour, "0.30") for hour in range(4)], "eve")
    ledger.import_tariff(retail, [rate("retail", hour, "0.1001") for hour in (3, 4)], "eve")
    half_past = HOUR_MS // 2
    found = ledger.tariff_rates("retail", 2 * HOUR_MS + half_past, 4 * HOUR_MS)
    assert found == [rate("retail", 2, "0.30"), rate("retail", 3, "0.1001")]
    assert ledger.tariff_rates("retail", 5 * HOUR_MS, 9 * HOUR_MS) == []
    assert ledger.tariffs() == [(retail, 5, 0, 5 * HOUR_MS)]
    with pytest.raises(LedgerError, match="is in EUR by 3600 s, the rates are in USD by 3600 s"):
        ledger.import_tariff(
            LedgerTariff(name="retail", currency="USD", interval_ms=HOUR_MS, created_ms=9),
            [rate("retail", 1, "1")],
            "e",
        )
