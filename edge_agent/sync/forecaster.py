"""Keeps the site's forecast fresh: its own past into the model, or into seasonal persistence where that cannot be.

Nothing here is in control. A model that is missing, damaged, says what cannot be true, or has lately done much worse
than persistence, costs its forecast and is named.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Final

from edge_agent.forecast.exchange import PAST, Answer, Request
from edge_agent.forecast.horizon import DAY, HISTORY, STEP_S
from edge_agent.forecast.persistence import persist
from edge_agent.forecast.runner import MISSING, is_installed, run_model
from edge_agent.model.clock import Clock
from edge_agent.model.forecast import Expectation
from edge_agent.sync.models import CannotTry, good_model
from edge_agent.sync.quarters import Quarters
from protos.model_file import SITE_FORECAST
from protos.vpp.v1.local_pb2 import SnapshotReport

MUCH_WORSE: Final = 1.25  # times the error of what it is compared with,
FORGIVEN_W: Final = 10.0  # and this much beside
SPREAD_S: Final = 30.0  # no hurry: a start, and the end of a quarter hour, have other work that comes first
PERSISTENCE: Final = "seasonal persistence"
BUILT_IN: Final = "the model that came with the agent"


class Forecaster:
    """One site's."""

    def __init__(
        self,
        data_dir: Path,
        clock: Clock,
        *,
        every_s: float,
        tell: Callable[[Expectation], None],
        changed: Callable[[str], None],
    ) -> None:
        """tell: takes each new forecast. changed: takes, in words, that another source is used, and why."""
        self._data_dir = data_dir
        self._clock = clock
        self._every_s = every_s
        self._tell = tell
        self._changed = changed
        self._quarters = Quarters(data_dir, clock.utc_ms())
        self._due = asyncio.Event()
        self._turn = asyncio.Lock()  # one model at a time: a gateway has little memory
        self._source = ""

    def add(self, snapshot: SnapshotReport) -> None:
        """Takes what was measured into the site's past."""
        if self._quarters.add(snapshot):
            asyncio.get_running_loop().call_later(self._moment_s(), self._due.set)

    def close(self) -> None:
        self._quarters.close()

    async def run(self) -> None:
        """Forecasts for ever: when a quarter hour has ended, and now and then between."""
        wait_s = self._moment_s()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._due.wait()
            self._due.clear()
            wait_s = self._every_s
            if (expected := await self._expect()) is not None:
                self._tell(expected)
                source = f"{expected.source}{f': {expected.note}' if expected.note else ''}"
                if source != self._source:
                    self._source = source
                    self._changed(source)

    def _moment_s(self) -> float:
        return random.uniform(0.0, min(SPREAD_S, self._every_s))

    async def try_model(self, path: Path) -> str:
        """Why a model that came is not to be used; empty where it is. Then it is used from now on. Raises CannotTry."""
        if not is_installed():
            raise CannotTry(MISSING)
        answer = await self._run(path, self._request(path, check=True))
        if answer.fault:
            return answer.fault
        if worse := _much_worse(answer.error_w, answer.persistence_error_w, PERSISTENCE):
            return worse
        before = self._model()[0]
        if before != path:
            former = await self._run(before, self._request(before, check=False))
            if worse := _much_worse(answer.error_w, former.error_w, "the model before it"):
                return worse
        self._due.set()
        return ""

    async def _expect(self) -> Expectation | None:
        """None where nothing was ever measured."""
        path, name = self._model()
        request = self._request(path, check=False)
        load_w, sun_w = persist(request.load_w[-HISTORY:]), persist(request.sun_w[-HISTORY:])
        if load_w is None and sun_w is None:
            return None
        note, source = "", PERSISTENCE
        answer = await self._run(path, request)
        if answer.fault:
            note = answer.fault
        elif worse := _much_worse(answer.error_w, answer.persistence_error_w, PERSISTENCE):
            note = worse
        elif answer.load_w is None and answer.sun_w is None:
            note = "less than a day and a half of the last week was measured"
        else:
            source = name
            load_w, sun_w = list(answer.load_w or load_w or ()), list(answer.sun_w or sun_w or ())
        return Expectation(
            start_ms=1000 * self._origin_s(),
            step_s=STEP_S,
            load_w=tuple(load_w or ()),
            sun_w=tuple(sun_w or ()),
            source=source,
            note=note,
        )

    async def _run(self, path: Path, request: Request) -> Answer:
        async with self._turn:
            try:
                return await run_model(request)
            except OSError as error:
                return Answer(fault=f"{path.name} cannot be run now: {error.strerror}")

    def _model(self) -> tuple[Path, str]:
        """The model in use, and its name for people."""
        if (found := good_model(self._data_dir)) is not None:
            return found[0], f"model {SITE_FORECAST} {found[1]}"
        return Path(str(resources.files("edge_agent.forecast") / f"{SITE_FORECAST}.onnx")), BUILT_IN

    def _origin_s(self) -> int:
        """Beginning of the quarter hour that runs [UTC s]."""
        now_s = self._clock.utc_ms() // 1000
        return now_s - now_s % STEP_S

    def _request(self, path: Path, *, check: bool) -> Request:
        origin_s = self._origin_s()
        past = self._quarters.past(origin_s, PAST)
        local = datetime.fromtimestamp(origin_s).astimezone()  # the owner's week
        return Request(
            model=str(path),
            check=check,
            weekday=local.weekday(),
            quarter=(local.hour * 60 + local.minute) * 60 // STEP_S % DAY,
            load_w=tuple(load_w for load_w, _ in past),
            sun_w=tuple(sun_w for _, sun_w in past),
        )


def _much_worse(error_w: float | None, other_w: float | None, than: str) -> str:
    """Says so where it is."""
    if error_w is None or other_w is None or error_w <= MUCH_WORSE * other_w + FORGIVEN_W:
        return ""
    return f"over the last days it was {error_w:.0f} W wrong, {than} {other_w:.0f} W"
