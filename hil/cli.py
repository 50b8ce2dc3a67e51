"""`vpp-hil`: rigs, the whole chain on one machine, and benchmarks."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from typing import Final

# command -> (module with add_arguments(parser) and run(arguments) -> exit code, help). Imported only when asked for.
COMMANDS: Final = {
    "run": ("hil.run.command", "run the whole chain on this machine: homes answer a recorded event, and a report"),
    "rig": ("hil.rigs.serve", "serve simulated homes as SunSpec devices over Modbus TCP"),
    "device": ("hil.rigs.serve_device", "serve a simulated device of a profile, over TCP or on a paced serial line"),
    "rtu-proxy": ("hil.rigs.serve_proxy", "put a paced serial line, with its troubles, before a Modbus RTU server"),
    "market": ("hil.market.serve", "serve a small reserve market that clears against recorded prices"),
    "fuzz": ("hil.fuzz.command", "mutate what every parser is given, led by coverage"),
    "load": (
        "hil.load.command",
        "put a load of many simulated sites on a broker and ingest, and check that all arrived",
    ),
    "faults": ("hil.faults.command", "break the cloud under load, and print what was lost and how long it took"),
    "train": ("hil.train.command", "train the models that the product runs, on recordings, and judge them"),
    "bench": ("hil.bench.command", "measure, and print the figures with the machine they were taken on"),
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="vpp-hil", description=__doc__)
    parser.add_argument("--version", action="version", version=f"vpp-hil {metadata.version('murmuration-vpp')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((a for a in arguments if a in COMMANDS), None)
    runners: dict[str, Callable[[argparse.Namespace], int]] = {}
    for name, (module_name, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            try:
                module = import_module(module_name)
            except ModuleNotFoundError as error:  # the console script is there with every extra
                parser.exit(2, f"vpp-hil: {error.name} is missing; install it: pip install 'murmuration-vpp[hil]'\n")
            module.add_arguments(sub)
            runners[name] = module.run
    parsed = parser.parse_args(arguments)
    return runners[parsed.command](parsed)


if __name__ == "__main__":
    sys.exit(main())
