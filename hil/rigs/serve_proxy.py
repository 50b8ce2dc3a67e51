"""`vpp-hil rtu-proxy`: a paced serial line, with its troubles, before a Modbus RTU server of one's own."""

import argparse
import asyncio
import sys

from hil.rigs import serve_device

add_arguments = serve_device.add_line_arguments


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM. 0; 2 with one line on stderr where it cannot."""
    try:
        asyncio.run(serve_device.serve_line(args, None))
    except OSError as error:
        print(f"vpp-hil: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0
