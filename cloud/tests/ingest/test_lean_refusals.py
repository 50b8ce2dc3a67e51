"""What is no protocol of NATS ends in the one error that the connection knows."""

import pytest
from nats.aio.client import Client
from nats.errors import ProtocolError

from cloud.ingest.lean import LeanParser


@pytest.mark.parametrize("line", [b"MSG \r\n", b"HMSG a 7 r 12 x\r\n", b"MSG a 7 -3\r\n"])
async def test_half_a_control_line_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="protocol"):
        await LeanParser(Client()).parse(line)
