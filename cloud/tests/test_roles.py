"""What a process is asked to be: whole streams, and a broker to speak to."""

from pathlib import Path

import pytest

from cloud import config
from cloud.coordinator import RoleError, telemetry_parts
from cloud.data_folder import DataFolder, DataFolderError
from cloud.gateway.nats_server import BrokerError
from cloud.model.role import Role
from cloud.parts import Parts
from cloud.roles import foundation


@pytest.mark.parametrize(
    ("partitions", "streams", "parts"),
    [
        pytest.param(range(64), 1, [0], id="all of one"),
        pytest.param(range(16, 48), 4, [1, 2], id="the middle of four"),
        pytest.param(range(63, 64), 64, [63], id="the last"),
    ],
)
def test_partitions_are_whole_streams(partitions: range, streams: int, parts: list[int]) -> None:
    assert list(telemetry_parts(partitions, streams)) == parts


@pytest.mark.parametrize(("partitions", "streams"), [(range(16), 1), (range(8, 32), 4), (range(15), 4)])
def test_half_a_stream_is_refused_with_what_would_do(partitions: range, streams: int) -> None:
    with pytest.raises(RoleError, match=f"give multiples of {64 // streams}"):
        telemetry_parts(partitions, streams)


async def test_a_role_without_a_broker_is_told_where_to_name_one(tmp_path: Path) -> None:
    data, parts, settings = DataFolder(tmp_path / "cloud"), Parts(), config.CoordinatorConfig()
    with data.owned(), pytest.raises(BrokerError, match=r"no broker: ingest .* \[messaging\] urls"):
        foundation.lay(settings, data, [Role.INGEST], [0], parts, lambda _: None, configured_by="command:ann")
    await parts.stop()


def test_two_processes_share_a_folder_but_no_duty(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "cloud")
    with (
        data.owned(["coordinator", "ingest-0"]),
        data.owned(["ingest-1", "console"]),
        pytest.raises(DataFolderError, match="another coordinator runs on it"),
        data.owned(["ingest-1"]),
    ):
        pass
    with data.owned(["ingest-1"]):
        pass
