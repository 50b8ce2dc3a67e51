"""`vpp-agent`: runs a site's agent, checks its configuration, shows what its devices are and how it is doing."""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent.drivers import SerialLines, open_device
from edge_agent.model.clock import SystemClock
from edge_agent.model.config import AgentConfig, load
from edge_agent.model.devices import Device, DeviceFault, DeviceRejected, DeviceTimeout
from edge_agent.runtime import folder
from edge_agent.runtime.process import ControlProcess
from edge_agent.runtime.watchdog import Watchdog
from protos.settings import SettingsError

REFUSED = 2  # the configuration, or what it names, has to be mended first


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.command(parsed)
    except SettingsError as error:
        print(f"vpp-agent: {error}", file=sys.stderr)
        return REFUSED
    except DeviceFault as error:
        print(f"vpp-agent: {parsed.config}: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vpp-agent", description=__doc__)
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--config", type=Path, required=True, metavar="FILE", help="the agent's TOML file")
        sub.set_defaults(command=function)
        return sub

    run = command("run", _run, "control the site until SIGTERM or Ctrl-C")
    run.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="how much goes to stderr"
    )
    command("check-config", _check_config, "say whether the configuration can be used, without touching a device")
    command("probe", _probe, "open each device and show what it is and what it measures")
    status = command("status", _status, "show how the agent is doing")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    return parser


class _Version(argparse.Action):
    """Looks the version up only when asked: that costs more memory than the rest of the command."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"vpp-agent {version('murmuration-vpp')}")
        parser.exit()


def _run(parsed: argparse.Namespace) -> int:
    config = load(parsed.config)
    logging.basicConfig(
        level=parsed.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    # pymodbus repeats as errors what our drivers already turn into DeviceTimeout and DeviceRejected.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    with folder.held(config.data_dir, parsed.config):
        return asyncio.run(_control(config, parsed.config.absolute()))


async def _control(config: AgentConfig, config_file: Path) -> int:
    clock, stop = SystemClock(), asyncio.Event()
    process = ControlProcess(
        config,
        open_device=partial(open_device, lines=SerialLines()),
        sync_command=[sys.executable, "-m", "edge_agent.sync", "--config", str(config_file)],
        clock=clock,
        watchdog=Watchdog.of_this_process(clock),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return 0 if await process.run(stop) else REFUSED


def _check_config(parsed: argparse.Namespace) -> int:
    config = load(parsed.config)
    print(
        f"{parsed.config}: site {config.site}, {len(config.devices)} device(s), default {config.control.default}: good"
    )
    return 0


def _probe(parsed: argparse.Namespace) -> int:
    config = load(parsed.config)
    return asyncio.run(_probe_all(config))


async def _probe_all(config: AgentConfig) -> int:
    code, lines = 0, SerialLines()
    for device_config in config.devices:
        try:
            device = await open_device(device_config, lines=lines)
        except DeviceTimeout as error:
            print(f"vpp-agent: {error}", file=sys.stderr)
            code = 1
            continue
        try:
            for line in await _describe(device):
                print(line)
        except (DeviceTimeout, DeviceRejected) as error:
            print(f"vpp-agent: {error}", file=sys.stderr)
            code = 1
        finally:
            await device.close()
    return code


async def _describe(device: Device) -> list[str]:
    plate = device.nameplate
    lines = [
        f"{device.name}: {plate.manufacturer} {plate.model}, serial {plate.serial}",
        f"  SunSpec models: {', '.join(map(str, plate.sunspec_models))}",
        f"  rated {plate.rated_power_w:.0f} W, charge {plate.max_charge_w:.0f} W, "
        f"discharge {plate.max_discharge_w:.0f} W, storage {plate.storage_capacity_wh:.0f} Wh",
        f"  power can be set: {'yes' if device.control is not None else 'no'}",
    ]
    lines.extend(f"  finding: {finding}" for finding in device.findings)
    readings: list[tuple[str, Any]] = []
    if device.inverter is not None:
        readings.append(("inverter", await device.inverter.read_inverter()))
    if device.meter is not None:
        readings.append(("meter", await device.meter.read_meter()))
    for what, reading in readings:
        for name in reading.__slots__:
            sample = getattr(reading, name)
            shown = f"{sample.good:g}" if sample.good is not None else f"({sample.quality.value})"
            lines.append(f"  {what} {name}: {shown}")
    return lines


def _status(parsed: argparse.Namespace) -> int:
    from edge_agent.sync.journal import JournalError, read_status  # SQLite is sync's, not control's

    config = load(parsed.config)
    file = config.data_dir / folder.STATISTICS
    try:
        control = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        journal = read_status(config.data_dir)
    except (OSError, ValueError, JournalError) as error:
        raise SettingsError(f"{config.data_dir}: the agent's status cannot be read ({error})") from error
    counters = {name: getattr(journal, name) for name in journal.__dataclass_fields__}
    if parsed.json:
        print(json.dumps({"site": config.site, "journal": counters, "control": control}, indent=1))
        return 0
    print(f"site {config.site}")
    for part, figures in (("journal", counters), ("control", control or {"": "no figures yet: has the agent run?"})):
        print(f"{part}:")
        for name, shown in figures.items():
            print(f"  {name:20} {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
