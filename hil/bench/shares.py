"""Where the processor's time goes while something is measured: CPU seconds by process, and of the whole machine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """CPU seconds. elsewhere_s: of processes that have nothing to do with it, so it says how loaded the machine was."""

    wall_s: float
    by_process_s: dict[str, float]
    elsewhere_s: float

    def of(self, *names: str) -> float:
        return sum(self.by_process_s[name] for name in names)

    def with_processes(self, used_s: Mapping[str, float]) -> "Shares":
        """With what processes used that were counted by themselves, such as those that ended or began meanwhile."""
        elsewhere_s = max(0.0, self.elsewhere_s - sum(used_s.values()))
        return Shares(wall_s=self.wall_s, by_process_s={**self.by_process_s, **used_s}, elsewhere_s=elsewhere_s)

    def rounded(self) -> dict[str, float]:
        """For a bench's figures."""
        shares = {name: round(used_s, 2) for name, used_s in self.by_process_s.items()}
        return {**shares, "other programs": round(self.elsewhere_s, 2), "wall": round(self.wall_s, 2)}

    def table(self, counted: int, what: str) -> list[str]:
        """A line a process, with its milliseconds for each of `counted` times `what`."""
        lines = [
            f"  {name:<30} {used_s:7.2f} s CPU  {1000 * used_s / counted:6.2f} ms a {what}"
            for name, used_s in sorted(self.by_process_s.items(), key=lambda item: -item[1])
        ]
        return [*lines, f"  {'other programs meanwhile':<30} {self.elsewhere_s:7.2f} s CPU in {self.wall_s:.1f} s"]


class Meter:
    """Counts from when it is made. processes: names to process ids."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes: Final = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._before = self._read()

    def read(self) -> Shares:
        """Since it was made."""
        used, busy_s, at_s = self._read()
        used_before, busy_before_s, before_s = self._before
        by_process = {name: used_s - used_before[name] for name, used_s in used.items()}
        elsewhere_s = busy_s - busy_before_s - sum(by_process.values())
        return Shares(wall_s=at_s - before_s, by_process_s=by_process, elsewhere_s=max(0.0, elsewhere_s))

    def _read(self) -> tuple[dict[str, float], float, float]:
        used = {}
        for name, process in self._processes.items():
            times = process.cpu_times()
            used[name] = times.user + times.system
        machine = psutil.cpu_times()
        return used, sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice, time.monotonic()


def peak_rss_mb(pid: int) -> float:
    """The most memory that a process ever held."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
