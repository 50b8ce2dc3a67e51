"""`vpp-hil bench`: measures, and prints the figures with the machine they were taken on."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hil.bench.chain import bench_chain
from hil.bench.clearing import bench_clearing
from hil.bench.driver import bench_driver
from hil.bench.edge import bench_edge
from hil.bench.firmware import bench_firmware
from hil.bench.fleet import bench_fleet
from hil.bench.ingest import bench_ingest
from hil.bench.security import bench_security
from hil.bench.services import bench_services
from hil.bench.storm import bench_storm
from hil.load.link import LoadError
from hil.rigs.firmware_node import FirmwareError
from hil.run.processes import ChainError
from protos.services import ServiceError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    chain = benches.add_parser("chain", help="response times, loop lateness, frames, memory and CPU of the whole chain")
    chain.add_argument("--homes", type=int, default=12, help="how many homes (default 12)")
    chain.add_argument("--seconds", type=float, default=60.0, help="of frequency steps (default 60)")
    chain.add_argument("--data", type=Path, help="folder for everything the bench writes (default: run/<time>)")
    chain.set_defaults(
        measure=lambda given, say: bench_chain(homes=given.homes, seconds=given.seconds, folder=given.data, say=say)
    )
    edge = benches.add_parser(
        "edge",
        help="one agent at 50 Hz while its network comes and goes; serial lines; an install; each service on the "
        "recordings; a day without the cloud. Some 6 minutes",
    )
    edge.add_argument("--seconds", type=float, default=60.0, help="of frequency steps (default 60)")
    edge.add_argument(
        "--outage-hours", type=float, default=24.0, help="in virtual time, 6 s of a core for each (default 24; 0: none)"
    )
    edge.add_argument("--no-install", action="store_true", help="leave edge_install_mb out: it needs a package index")
    edge.add_argument("--data", type=Path, help="folder for everything the bench writes (default: run/<time>)")
    edge.set_defaults(
        measure=lambda given, say: bench_edge(
            seconds=given.seconds,
            outage_hours=given.outage_hours,
            install=not given.no_install,
            folder=given.data,
            say=say,
        )
    )
    services = benches.add_parser(
        "services", help="each frequency service in closed loop: samples outside its envelope, timing, overshoot"
    )
    services.add_argument(
        "--service", action="append", help="one that ships, or a .toml file; repeatable (default: all that ship)"
    )
    services.set_defaults(measure=lambda given, say: bench_services(given.service or [], say=say))
    driver = benches.add_parser(
        "driver", help="full-map reads a second, ours over pysunspec2's client on the same server"
    )
    driver.add_argument("--seconds", type=float, default=10.0, help="for each client (default 10)")
    driver.add_argument("--legacy", action="store_true", help="the map of an older inverter (103, 120 to 124, 160)")
    driver.set_defaults(measure=lambda given, say: bench_driver(seconds=given.seconds, legacy=given.legacy))
    firmware = benches.add_parser(
        "firmware", help="frequency meter and relay on the MicroPython VM: errors, latencies, heap, bytecode, bad data"
    )
    firmware.add_argument("--steps", type=int, default=100, help="of the waveform's frequency (default 100)")
    firmware.set_defaults(measure=lambda given, say: bench_firmware(steps=given.steps, say=say))
    clearing = benches.add_parser(
        "clearing", help="prices and local prices of a million supply functions, and what each site gives at them"
    )
    clearing.add_argument("--sites", type=int, default=1_000_000, help="at most; 1k, 10k and 100k as well")
    clearing.set_defaults(measure=lambda given, say: bench_clearing(sites=given.sites, say=say))
    fleet = benches.add_parser(
        "fleet",
        help="a target held over a fleet with silent and lying sites; a cycle's cost; a broadcast to 2,000 gateways",
    )
    fleet.add_argument("--sites", type=int, default=1_000_000, help="at most; 1k, 10k and 100k as well")
    fleet.set_defaults(measure=lambda given, say: bench_fleet(sites=given.sites, say=say))
    security = benches.add_parser(
        "security", help="enrolments and credentials a second; a fleet dropped at once; how fast a thief is out"
    )
    security.add_argument("--agents", type=int, default=5000, help="that are dropped at once (default 5000)")
    security.set_defaults(measure=lambda given, say: bench_security(agents=given.agents, say=say))
    ingest = benches.add_parser(
        "ingest", help="frames a second into committed history, cores, memory, lag, bytes, questions; cost by sites"
    )
    ingest.add_argument("--sites", type=int, default=1_000_000, help="behind the connections (default 1000000)")
    ingest.add_argument("--seconds", type=float, default=20.0, help="of the longest part (default 20)")
    ingest.add_argument("--data", type=Path, help="folder for everything the bench writes (default: run/<time>)")
    ingest.set_defaults(
        measure=lambda given, say: bench_ingest(sites=given.sites, seconds=given.seconds, folder=given.data, say=say)
    )
    storm = benches.add_parser("storm", help="every site's connection breaks at once: until all is back and stored")
    storm.add_argument("--sites", type=int, default=20_000, help="each with a connection of its own (default 20000)")
    storm.add_argument("--data", type=Path, help="folder for everything the bench writes (default: run/<time>)")
    storm.set_defaults(measure=lambda given, say: bench_storm(sites=given.sites, folder=given.data, say=say))
    for bench in benches.choices.values():
        bench.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """0; 1 with one line where part of it failed, 2 where what was asked for cannot be measured.

    130: interrupted.
    """
    show = sys.stderr if arguments.json else sys.stdout

    def say(text: str) -> None:
        show.write(f"{text}\n")
        show.flush()

    try:
        figures = arguments.measure(arguments, say)
    except (ChainError, FirmwareError, LoadError, ServiceError) as error:
        sys.stderr.write(f"vpp-hil: {error}\n")
        return error.exit_code if isinstance(error, ChainError) else 2
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.write(_lines({key: value for key, value in figures.items() if key != "failed"}))
    failed = figures.get("failed", {})
    sys.stderr.write("".join(f"vpp-hil: no figures of {part}: {reason}\n" for part, reason in failed.items()))
    return 1 if failed else 0


def _lines(figures: dict[str, Any], indent: str = "") -> str:
    """A line a figure; those that belong together as a table below their name."""
    width = max((len(key) for key, value in figures.items() if not isinstance(value, dict)), default=0)
    return "".join(
        f"{indent}{key}\n{_lines(value, indent + '  ')}"
        if isinstance(value, dict)
        else f"{indent}{key:<{width}}  {value}\n"
        for key, value in figures.items()
    )
