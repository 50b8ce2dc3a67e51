"""`vpp-hil rig`: serves a scenario's homes, and takes orders as JSON lines on stdin until it ends.

Orders: {"play_at_utc_ms": N}, {"steps": [[utc_ms, hz], ...]}, {"save": "path.npz"} (answered by {"saved": "path.npz"}),
{"freeze": "home-03"}, {"thaw": "home-03"}. One that cannot be obeyed is answered by {"error": "why"}.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hil.rigs import dumped
from hil.rigs.clock import SteadyClock
from hil.rigs.home import keep_ticking
from hil.rigs.modbus_server import ListenError
from hil.rigs.recorded import RecordedTime, instant
from hil.rigs.rig import OrderError, Rig, parse_order
from hil.rigs.scenario import ScenarioError, load
from hil.rigs.served import TcpDevice
from protos.settings import SettingsError

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--scenario", default="underfrequency", help="name of a shipped scenario, or a TOML file")
    parser.add_argument("--homes", type=_count, default=12, help="how many (default 12)")
    parser.add_argument(
        "--dump", type=Path, metavar="FILE", help="instead of homes, the device whose map `vpp-agent dump` wrote here"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder for rig.json")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--first-port", type=_port, default=0, help="of the first home, others follow; 0: free ones")
    parser.add_argument(
        "--recorded-start-utc",
        type=instant,
        default=None,
        help="the instant (ISO 8601 with offset) at which the scenario's recorded time starts; default: now",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until stdin ends, SIGINT or SIGTERM. 0; 2 with one line on stderr where it cannot."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # pymodbus dumps its last frames with every error; what matters of them is raised or answered.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    if Path(args.scenario).is_file():
        args.scenario = str(Path(args.scenario).resolve())  # others read rig.json from elsewhere
    try:
        asyncio.run(_serve(args) if args.dump is None else _serve_dump(args))
    except (ScenarioError, ListenError, SettingsError) as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"--data {args.data}: {error.strerror}")
    return 0


async def _serve(args: argparse.Namespace) -> None:
    scenario = load(args.scenario)
    recorded = RecordedTime(args.recorded_start_utc or datetime.now(UTC), scenario.recorded.start)
    args.data.mkdir(parents=True, exist_ok=True)
    rig_file = args.data / "rig.json"
    rig_file.unlink(missing_ok=True)
    rig = Rig(scenario, args.homes, recorded, SteadyClock(), host=args.host, first_port=args.first_port)
    async with AsyncExitStack() as stack:
        await rig.listen(stack)
        _write_json(
            rig_file,
            {
                "pid": os.getpid(),
                "scenario": args.scenario,
                "title": scenario.title,
                "recorded_start": recorded.recorded_start.isoformat(),
                "recorded_start_utc": recorded.start_utc.isoformat(),
                "event_duration_s": rig.event_duration_s,
                "homes": rig.describe(),
            },
        )
        _log.info("rig: %d homes listen, scenario %s", len(rig.homes), scenario.id)
        ticking = asyncio.create_task(keep_ticking(rig.homes))
        obeying = asyncio.create_task(_obey_stdin(rig))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, obeying.cancel)
        try:
            await asyncio.wait((ticking, obeying), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ticking, obeying):
                task.cancel()
            ended = await asyncio.gather(ticking, obeying, return_exceptions=True)
        for result in ended:
            if isinstance(result, Exception):
                raise result
    _log.info("rig: stopped%s", "" if obeying.cancelled() else ": its standard input, which takes orders, has ended")


async def _serve_dump(args: argparse.Namespace) -> None:
    """One device, until stdin ends, SIGINT or SIGTERM."""
    dump = dumped.load(args.dump)
    args.data.mkdir(parents=True, exist_ok=True)
    stop, device = asyncio.Event(), dumped.DumpedDevice(dump)
    async with TcpDevice(device, unit_id=dump.unit_id, host=args.host, port=args.first_port) as served:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        home = {"site": args.dump.stem, "host": args.host, "port": served.port, "unit_id": dump.unit_id}
        _write_json(args.data / "rig.json", {"pid": os.getpid(), "dump": str(args.dump), "homes": [home]})
        _log.info("rig: %s listens on %s:%d", args.dump, args.host, served.port)
        _on_stdin(lambda line: stop.set() if line is None else None)
        await stop.wait()


async def _obey_stdin(rig: Rig) -> None:
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()
    _on_stdin(lines.put_nowait)
    while (line := await lines.get()) is not None:
        try:
            answer = await rig.obey(parse_order(line))
        except OrderError as error:
            answer = {"error": str(error)}
        if answer is not None:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


def _on_stdin(take: Callable[[bytes | None], None]) -> None:
    """Gives each line of stdin, and None at its end, to the running loop."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        # A thread, since stdin may be anything and asyncio reads only pipes and sockets; unbuffered, since a thread
        # that still reads sys.stdin when the interpreter ends would abort it.
        with suppress(RuntimeError), open(0, "rb", buffering=0, closefd=False) as stdin:  # the loop may have ended
            for line in stdin:
                loop.call_soon_threadsafe(take, line)
            loop.call_soon_threadsafe(take, None)

    threading.Thread(target=read, name="orders", daemon=True).start()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _refuse(why: str) -> int:
    sys.stderr.write(f"vpp-hil: {why}\n")
    return 2


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 66:
        raise argparse.ArgumentTypeError(f"{text!r}: 1 to 66 homes (11 recorded ones, each up to 5 days earlier)")
    return int(text)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: 0 to 65535")
    return int(text)
