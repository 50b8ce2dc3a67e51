"""`vpp-hil bench`: measures, and prints the figures with the machine they were taken on."""

import argparse
import json
import sys
from pathlib import Path

from hil.bench.chain import bench_chain
from hil.run.processes import ChainError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    chain = benches.add_parser("chain", help="response times, loop lateness, frames, memory and CPU of the whole chain")
    chain.add_argument("--homes", type=int, default=12, help="how many homes (default 12)")
    chain.add_argument("--seconds", type=float, default=60.0, help="of frequency steps (default 60)")
    chain.add_argument("--data", type=Path, help="folder for everything the bench writes (default: run/<time>)")
    chain.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """0; 1 with one line where part of the chain failed."""
    show = sys.stderr if arguments.json else sys.stdout

    def say(text: str) -> None:
        show.write(f"{text}\n")
        show.flush()

    try:
        figures = bench_chain(homes=arguments.homes, seconds=arguments.seconds, folder=arguments.data, say=say)
    except ChainError as error:
        sys.stderr.write(f"vpp-hil: {error}\n")
        return 1
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        width = max(map(len, figures))
        sys.stdout.write("".join(f"{key:<{width}}  {value}\n" for key, value in figures.items()))
    return 0
