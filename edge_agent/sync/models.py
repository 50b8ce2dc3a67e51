"""Models that came as updates: switched to, tried, kept or given up, with the one before kept until then.

A model on trial is tried by a process that ends with it (`edge_agent/forecast`): it loads, says what can be true of a
plain home, and has not been much more wrong on this site's last days than what it is compared with. What was given up,
or was on trial when the gateway ended, is not tried again.
"""

import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.model import update
from edge_agent.model.files import write_private
from edge_agent.model.update import Models, Outcome, Staged
from protos.model_file import SITE_FORECAST

log = logging.getLogger(__name__)

SUFFIX: Final = ".onnx"
TryModel = Callable[[Path], Awaitable[str]]  # why a model is not to be used; empty where it is; raises CannotTry


class CannotTry(Exception):
    """Nothing can be said of a model here; says what is missing."""


class ModelSlots:
    """The versions of one model in its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / update.MODELS_FILE
        self._models = _read(self._file)
        if (trial := self._models.trial) is not None:
            self._give_up(trial, "the gateway or its agent ended while it was on trial")

    def outcome(self, digest: str) -> Outcome | None:
        """What came of a version; None where it was not tried yet."""
        return self._models.outcomes.get(digest)

    async def switch(self, version: Staged, try_model: TryModel) -> None:
        """Uses a version, if it passes its trial; else the one before.

        Raises CannotTry, and OSError where that cannot be kept.
        """
        known = self._models
        if version.digest in known.outcomes:
            return
        self._write(Models(good=known.good, trial=version, outcomes=known.outcomes))
        log.info("update: trying model %s", version.version)
        try:
            reason = await try_model(model_path(self._folder / version.digest))
        except CannotTry:
            self._write(known)
            raise
        if reason:
            self._give_up(version, reason)
            return
        log.info("update: model %s does well and stays", version.version)
        bad = {digest: outcome for digest, outcome in known.outcomes.items() if outcome.state == "rolled-back"}
        self._write(Models(good=version, outcomes={**bad, version.digest: Outcome(state="healthy")}))
        for old in self._folder.iterdir():
            if old.is_dir() and old.name != version.digest:
                shutil.rmtree(old, ignore_errors=True)

    def _give_up(self, version: Staged, reason: str) -> None:
        log.error("update: model %s is given up: %s", version.version, reason)
        outcomes = {**self._models.outcomes, version.digest: Outcome(state="rolled-back", reason=reason)}
        self._write(Models(good=self._models.good, outcomes=outcomes))
        shutil.rmtree(self._folder / version.digest, ignore_errors=True)

    def _write(self, models: Models) -> None:
        self._models = models
        write_private(self._file, msgspec.json.encode(models))


def model_path(place: Path) -> Path:
    """The model's file of a version that lies complete in its place."""
    return next(iter(sorted(place.glob(f"*{SUFFIX}"))), place / SUFFIX)


def good_model(data_dir: Path) -> tuple[Path, str] | None:
    """The model that passed its trial last, and its version; None where the agent's own is to be used."""
    folder = data_dir / update.FOLDER / "model" / SITE_FORECAST
    good = _read(folder / update.MODELS_FILE).good
    if good is None or not (path := model_path(folder / good.digest)).is_file():
        return None
    return path, good.version


def _read(file: Path) -> Models:
    try:
        return update.read(file, Models) or Models()
    except ValueError as error:
        log.error("what models are here cannot be read, the agent's own is used: %s", error)
        return Models()
