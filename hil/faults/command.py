"""`vpp-hil faults`: breaks the cloud under load, and prints what was lost and how long it took."""

import argparse
import json
import logging
import signal
import sys
from pathlib import Path

from cloud.store.errors import StoreError
from cloud.store.testing import PostgresMissing
from hil.faults.cloud import faults_cloud
from hil.run.processes import ChainError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subjects = parser.add_subparsers(required=True, metavar="WHAT")
    cloud = subjects.add_parser("cloud", help="three broker nodes, two coordinators, two workers and PostgreSQL")
    cloud.add_argument("--outage", type=float, default=15.0, metavar="S", help="of the ledger's server (default 15)")
    cloud.add_argument("--data", type=Path, help="an empty folder that is kept, with the logs")
    cloud.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """0; 1 where something that was acknowledged is lost or there twice, or a part failed; 2 where it cannot be run."""
    show = sys.stderr if arguments.json else sys.stdout

    def say(text: str) -> None:
        show.write(f"{text}\n")
        show.flush()

    logging.getLogger("asyncio").setLevel(logging.ERROR)  # nats-py: a line for each TLS connection that ends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was set up is taken down
    try:
        figures = faults_cloud(outage_s=arguments.outage, folder=arguments.data, say=say)
    except PostgresMissing as error:
        sys.stderr.write(f"vpp-hil: {error}\n")
        return 2
    except (ChainError, StoreError, OSError) as error:
        sys.stderr.write(f"vpp-hil: {error}\n")
        return 1
    sys.stdout.write(json.dumps(figures, indent=None if arguments.json else 2) + "\n")
    return 1 if figures["frames_lost"] or figures["frames_duplicated"] else 0
