"""What may be set from afar: limits are tightened and never loosened, addresses only where the owner allows it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from edge_agent.model.config import AgentConfig, ControlConfig, CoordinatorConfig, DeviceConfig
from edge_agent.model.remote import changes, merged
from protos.settings import SettingsError

OWNERS = AgentConfig(
    site="home-01",
    data_dir=Path("data"),
    coordinator=CoordinatorConfig(claim_file=Path("claim.toml")),
    control=ControlConfig(soc_min=0.2, soc_max=0.9, export_limit_w=5000.0),
    devices=(DeviceConfig(name="hybrid", driver="sunspec", host="192.0.2.1"),),
)
OPEN = structs.replace(OWNERS, coordinator=structs.replace(OWNERS.coordinator, remote_addresses=True))
NEW_HOST = '[[devices]]\nname = "hybrid"\nhost = "192.0.2.2"\n'


def test_tighter_limits_and_another_default_are_taken() -> None:
    text = '[control]\nsoc_min = 0.3\nexport_limit_w = 0\nimport_limit_w = 3000\ndefault = "idle"\n'
    now = merged(OWNERS, text, "revision 1")
    assert now.control == structs.replace(
        OWNERS.control, soc_min=0.3, export_limit_w=0.0, import_limit_w=3000.0, default="idle"
    )
    assert changes(OWNERS, now) == [
        "default self-consumption -> idle",
        "soc_min 0.2 -> 0.3",
        "export_limit_w 5000 -> 0",
        "import_limit_w none -> 3000",
    ]


def test_nothing_set_is_the_owners_file() -> None:
    assert merged(OWNERS, "", "revision 1") == OWNERS


def test_an_address_is_changed_where_the_owner_allows_it() -> None:
    assert merged(OPEN, NEW_HOST, "revision 1").devices[0].host == "192.0.2.2"
    slower = merged(OWNERS, '[[devices]]\nname = "hybrid"\ntimeout_s = 0.5\n', "revision 1")  # no address
    assert changes(OWNERS, slower) == ["hybrid timeout_s 0.25 -> 0.5"]


REFUSED = {
    "more export": ("[control]\nexport_limit_w = 5001\n", "$.control.export_limit_w: 5001 is above the owner's 5000"),
    "less kept in the storage": ("[control]\nsoc_min = 0.1\n", "$.control.soc_min: 0.1 is below the owner's 0.2"),
    "a fuller storage": ("[control]\nsoc_max = 0.95\n", "$.control.soc_max: 0.95 is above the owner's 0.9"),
    "a smaller reserve": ("[control]\nbackup_reserve = -0.1\n", "$.control.backup_reserve: "),
    "nothing left between the limits": ("[control]\nsoc_min = 0.89\n", "leaves less than 0.05"),
    "the site's name": ('site = "home-02"\n', "$.site: unknown key"),
    "the data folder": ('data_dir = "x"\n', "$.data_dir: unknown key"),
    "the coordinator": ('[coordinator]\nclaim_file = "x"\n', "$.coordinator: unknown key"),
    "the guard against the coordinator": ("[control.guard]\nramp_percent_per_s = 1\n", "$.control.guard: unknown key"),
    "an address": (NEW_HOST, "$.devices[0].host: addresses are the owner's"),
    "an unknown device": ('[[devices]]\nname = "other"\n', "$.devices[0].name: 'other' is none of this site's: hybrid"),
    "a driver": ('[[devices]]\nname = "hybrid"\ndriver = "profile"\n', "$.devices[0].driver: unknown key"),
    "no TOML": ("control = [", "is not TOML"),
}


@pytest.mark.parametrize(("text", "finding"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_the_coordinators_to_set_is_refused(text: str, finding: str) -> None:
    with pytest.raises(SettingsError, match="revision 7: ") as refusal:
        merged(OWNERS, text, "revision 7")
    assert finding in str(refusal.value)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "soc_min": st.floats(0, 1),
            "soc_max": st.floats(0, 1),
            "backup_reserve": st.floats(0, 1),
            "export_limit_w": st.floats(0, 1e4),
            "import_limit_w": st.floats(0, 1e4),
            "ramp_w_per_s": st.floats(1, 1e4),
        },
    )
)
def test_no_text_loosens_a_limit(values: dict[str, float]) -> None:
    owners = structs.replace(
        OWNERS, control=structs.replace(OWNERS.control, import_limit_w=6000.0, ramp_w_per_s=500.0, backup_reserve=0.25)
    )
    text = "[control]\n" + "".join(f"{key} = {value:.4f}\n" for key, value in values.items())
    try:
        now = merged(owners, text, "revision 1").control
    except SettingsError:
        return
    assert now.soc_floor >= owners.control.soc_floor
    assert now.soc_max <= owners.control.soc_max
    for key in ("export_limit_w", "import_limit_w", "ramp_w_per_s"):
        assert getattr(now, key) <= getattr(owners.control, key)
