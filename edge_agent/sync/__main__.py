"""`python -m edge_agent.sync --config PATH --fd N`: started by `vpp-agent run`, which holds the other end of N.

Exit codes: 0, control is gone; 2, a person has to act (one line on stderr says how); anything else is a fault, and
control starts this process again.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from edge_agent.model.clock import SystemClock
from edge_agent.model.config import AgentConfig, load
from edge_agent.sync.files import DiskTrouble
from protos.settings import SettingsError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m edge_agent.sync", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the agent's TOML file")
    parser.add_argument("--fd", type=int, required=True, help="SEQPACKET socket to the control process")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("asyncio").addFilter(_worth_logging)
    os.umask(0o077)
    try:
        config = load(arguments.config)
        asyncio.run(_run(config, arguments.fd))
    except SettingsError as error:
        sys.stderr.write(f"vpp-agent: {error}\n")
        return 2
    except DiskTrouble as error:  # control starts us again, later each time
        logging.getLogger(__name__).error("disk: %s; telemetry and intents are not kept meanwhile", error)
        return 1
    return 0


def _worth_logging(record: logging.LogRecord) -> bool:
    """False for what asyncio says at the end of every connection that was upgraded to TLS, as the broker's is."""
    return not record.getMessage().startswith("returning true from eof_received()")


async def _run(config: AgentConfig, fd: int) -> None:
    # gRPC's core would log each failed attempt in its own words; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from edge_agent.sync.ipc import ControlSocket
    from edge_agent.sync.process import Pace, SyncProcess

    try:
        control = ControlSocket(fd)
    except OSError as error:
        raise SettingsError(
            f"--fd {fd}: is no socket ({error.strerror}); start the agent with `vpp-agent run`"
        ) from error
    loop = asyncio.get_running_loop()
    # Ctrl-C reaches the whole terminal group: control ends first, and its end of the socket tells us.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, control.stop_receiving)
    try:
        await SyncProcess(config, control, SystemClock(), Pace()).run()
    finally:
        control.close()


if __name__ == "__main__":
    sys.exit(main())
