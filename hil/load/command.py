"""`vpp-hil load`: many simulated sites over real NATS connections, and whether everything they sent has arrived."""

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

import uvloop

from hil.load.driver import Mode
from hil.load.link import LoadError
from hil.load.trial import Load, Outcome, phases, put, put_on_installation

_ARRIVED: Final = 0
_LOST: Final = 1
_REFUSED: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sites", type=int, default=20_000, help="simulated sites (default 20000)")
    parser.add_argument("--connections", type=int, default=200, help="concentrators they are behind (default 200)")
    parser.add_argument(
        "--rate", type=float, help="frames a second (default: what the sites send at ten seconds a frame)"
    )
    parser.add_argument("--ramp", type=float, default=5.0, metavar="S", help="seconds of ramp-up (default 5)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="of steady state (default 20)")
    parser.add_argument(
        "--burst", type=float, nargs=2, default=(), metavar=("X", "S"), help="then X times the rate for S seconds"
    )
    parser.add_argument(
        "--outages", type=float, default=0.0, metavar="PER_S", help="connections that break each second, for up to 2 s"
    )
    parser.add_argument("--batch", type=int, default=500, help="frames in a message; 1: each on its site's own subject")
    parser.add_argument("--compress", action="store_true", help="batches by zstd")
    parser.add_argument(
        "--streams", type=int, default=1, help="telemetry streams, each with its own worker (default 1)"
    )
    parser.add_argument(
        "--unsynced", action="store_true", help="acknowledge before the fsync: the broker syncs once a second instead"
    )
    parser.add_argument(
        "--storm", action="store_true", help="at the end every connection breaks at once and comes back, with a frame"
    )
    parser.add_argument(
        "--insecure-loopback-only",
        action="store_true",
        help="a bare broker on this machine without TLS and credentials, and ingest workers of its own",
    )
    parser.add_argument("--data", type=Path, help="folder for everything it writes (default: one that is removed)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """0 when everything arrived; 1 when not; 2 when it could not be run."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # a line for each TLS connection that ends
    try:
        load = _load(arguments)
        how = put if arguments.insecure_loopback_only else put_on_installation
        if arguments.data is not None:
            outcome = uvloop.run(how(load, arguments.data))
        else:
            with tempfile.TemporaryDirectory(prefix="vpp-load-") as folder:
                outcome = uvloop.run(how(load, Path(folder)))
    except (LoadError, OSError) as error:
        sys.stderr.write(f"vpp-hil load: {error}\n")
        return _REFUSED
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n" if arguments.json else _told(outcome))
    return _ARRIVED if outcome.comparison.holds else _LOST


def _load(arguments: argparse.Namespace) -> Load:
    positive = {"--sites": arguments.sites, "--connections": arguments.connections, "--batch": arguments.batch}
    for name, number in positive.items():
        if number < 1:
            raise LoadError(f"{name} {number}: at least 1")
    if not 1 <= arguments.streams <= 64:
        raise LoadError(f"--streams {arguments.streams}: 1 to 64, one for a group of partitions")
    if not arguments.insecure_loopback_only:
        if arguments.batch == 1:
            raise LoadError(
                "--batch 1: a concentrator has no right to its sites' own subjects, only to send batches for them; "
                "give a larger batch, or --insecure-loopback-only"
            )
        if arguments.unsynced:
            raise LoadError("--unsynced: an installation acknowledges after the fsync; give --insecure-loopback-only")
    return Load(
        sites=arguments.sites,
        connections=arguments.connections,
        phases=phases(arguments.rate or arguments.sites / 10, arguments.ramp, arguments.seconds, arguments.burst),
        mode=Mode(batch=arguments.batch, compressed=arguments.compress),
        streams=arguments.streams,
        sync_interval="1s" if arguments.unsynced else "always",
        outages_per_s=arguments.outages,
        storm=arguments.storm,
    )


def _told(outcome: Outcome) -> str:
    compared = outcome.comparison
    lines = [
        f"frames: {compared.sent} sent, {compared.stored} stored, {compared.missing} missing, "
        f"{compared.duplicate} twice, {compared.wrong_sites} sites with other values than sent",
        f"rate: {outcome.acknowledged_per_s:.0f}/s acknowledged, {outcome.stored_per_s:.0f}/s until all was stored",
        f"bytes a value: {outcome.wire_bytes_per_value:.2f} on the wire, {outcome.history_bytes_per_value:.2f} on disk",
        f"reconnected {outcome.reconnected} times; {outcome.refused} frames were refused",
    ]
    if outcome.lag_ms is not None:
        lines.append("frame to fleet column: p50 {:.0f} ms, p99 {:.0f} ms, largest {:.0f} ms".format(*outcome.lag_ms))
    if outcome.duplicates is not None:
        lines.append(f"{outcome.duplicates} frames came twice and were dropped")
    if outcome.storm_s is not None:
        lines.append(f"storm: all connections cut, back and acknowledged after {outcome.storm_s:.1f} s")
    lines += [
        f"{name}: {cores:.2f} cores, {outcome.cpu_us_per_frame[name]:.2f} us a frame, {outcome.rss_mb[name]:.0f} MB"
        for name, cores in outcome.cores.items()
    ]
    return "\n".join(lines) + "\n"
