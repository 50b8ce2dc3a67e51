"""`vpp-hil train`: trains a model of the product's on the recordings that ship, and prints how well it does."""

import argparse
import json
import sys
import time
from pathlib import Path

from hil.train.forecast import as_rows, judged, model_file, trained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    models = parser.add_subparsers(dest="model", required=True, metavar="MODEL")
    forecast = models.add_parser("forecast", help="the site's own forecast of load and sun; about a minute of a core")
    forecast.add_argument("--out", type=Path, metavar="FILE.onnx", help="write the model; else it is only judged")
    forecast.add_argument("--json", action="store_true", help="the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """0; 2 where the file cannot be written."""
    begun_s = time.process_time()
    networks = trained()
    figures = judged(networks)
    rows = as_rows(figures)
    if arguments.json:
        sys.stdout.write(
            json.dumps({"judged": rows, "cpu_s": round(time.process_time() - begun_s, 1)}, indent=1) + "\n"
        )
    else:
        for row in rows:
            sys.stdout.write(
                f"{row['quantity']:5} {row['days']:50} MAE {row['mae_w']:6} W of {row['mean_w']:6} W, seasonal "
                f"persistence {row['persistence_mae_w']:6} W: {row['ratio']} of it ({row['worst_ratio']} at worst), "
                f"bias {row['bias_w']} W\n"
            )
    if arguments.out is not None:
        try:
            arguments.out.write_bytes(model_file(networks, figures))
        except OSError as error:
            sys.stderr.write(f"vpp-hil: {arguments.out}: {error.strerror}; give another file as --out\n")
            return 2
    return 0
