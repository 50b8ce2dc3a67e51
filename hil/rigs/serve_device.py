"""`vpp-hil device`: a simulated device of any profile, behind Modbus TCP or on a paced serial line."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from edge_agent.drivers.profile_loading import load, shipped
from edge_agent.model.config import SerialSettings
from hil.rigs.profile_flexible import simulated
from hil.rigs.rtu_proxy import Rates, RtuProxy, Serve
from hil.rigs.served import TcpDevice, on_line
from protos.settings import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `vpp-hil device`."""
    parser.add_argument("profile", help=f"one of {', '.join(shipped())}, or a file of your own (.toml)")
    parser.add_argument("--unit-id", type=int, default=1, help="its Modbus unit (default 1)")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: a free one")
    parser.add_argument("--rtu", action="store_true", help="on a serial line instead of TCP; the options below are its")
    add_line_arguments(parser)


def add_line_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a paced line is told."""
    parser.add_argument("--baudrate", type=int, default=9600, help="bits a second (default 9600)")
    parser.add_argument("--parity", choices=("none", "even", "odd"), default="none")
    parser.add_argument("--stop-bits", type=int, choices=(1, 2), default=1)
    parser.add_argument("--turn-round-ms", type=float, default=4.0, help="of the server (default 4)")
    parser.add_argument("--echo", action="store_true", help="the adapter gives back what is sent")
    parser.add_argument("--bit-errors", type=_share, default=0.0, metavar="SHARE", help="of all bits, e.g. 0.0001")
    parser.add_argument("--lost", type=_share, default=0.0, metavar="SHARE", help="of the replies")
    parser.add_argument("--late", type=_share, default=0.0, metavar="SHARE", help="of the replies")
    parser.add_argument("--late-ms", type=float, default=500.0, help="how late (default 500)")
    parser.add_argument("--seed", type=int, default=0, help="of chance (default 0)")
    parser.add_argument("--link", type=Path, metavar="PATH", help="a symbolic link to the client's end")


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM. 0; 2 with one line on stderr where it cannot."""
    try:
        asyncio.run(_serve(args))
    except (SettingsError, OSError) as error:
        print(f"vpp-hil: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


async def _serve(args: argparse.Namespace) -> None:
    device = simulated(load(args.profile), now_s=asyncio.get_running_loop().time)
    if args.rtu:
        await serve_line(args, on_line({args.unit_id: device}))
        return
    async with TcpDevice(device, unit_id=args.unit_id, port=args.port) as served:
        await _until_told(f'host = "127.0.0.1"\nport = {served.port}\nunit_id = {args.unit_id}')


async def serve_line(args: argparse.Namespace, serve: Serve | None) -> None:
    """A paced line until told to stop; without `serve` its other end is told too."""
    settings = SerialSettings(args.baudrate, args.parity, args.stop_bits)
    rates = Rates(bit_error=args.bit_errors, lost_reply=args.lost, late_reply=args.late, late_s=args.late_ms / 1000.0)
    proxy = RtuProxy(
        settings, serve, turn_round_s=args.turn_round_ms / 1000.0, echo=args.echo, rates=rates, seed=args.seed
    )
    async with proxy:
        path = proxy.path
        if args.link is not None:
            args.link.symlink_to(path)
            path = str(args.link.absolute())
        told = f'serial = "{path}"\nbaudrate = {args.baudrate}\nparity = "{args.parity}"\nstop_bits = {args.stop_bits}'
        try:
            await _until_told(told if serve is not None else f"{told}\n# the server opens {proxy.server_path}")
        finally:
            if args.link is not None:
                args.link.unlink()
        for violation in proxy.violations:
            print(f"violation: {violation}", file=sys.stderr)  # noqa: T201


async def _until_told(told: str) -> None:
    """Says how an agent's configuration finds it, and waits for SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(told, flush=True)  # noqa: T201
    await stop.wait()


def _share(text: str) -> float:
    share = float(text)
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError("a share is from 0 to 1")
    return share
