"""A forecast model in ONNX: believed only as far as what it says can be true.

Two inputs, `load` and `sun`, each (HORIZON, features); two outputs, `load_share` and `sun_share`, each (HORIZON,), in
shares of the features' scale. Its metadata names it and the format of the features. It is loaded from bytes, so that it
can name no other file, and run by one thread.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.forecast.features import NAMES, Array, Features
from edge_agent.forecast.horizon import HORIZON
from protos import model_file

MOST_SHARES: Final = 50.0  # of a site's own scale; nothing beyond can be a forecast
_QUANTITIES: Final = ("load", "sun")


class ModelFault(Exception):
    """A model that cannot be used, or says what cannot be true; says why."""


class Model:
    """A loaded model."""

    def __init__(self, content: bytes) -> None:
        """Raises ModelFault."""
        try:
            model_file.check(content, model_file.SITE_FORECAST)
        except model_file.ModelFileError as error:
            raise ModelFault(str(error)) from error
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # each kind of damage has a class of its own in onnxruntime
            raise ModelFault(f"it does not load: {_line(error)}") from error
        names = {each.name for each in self._session.get_inputs()}, {each.name for each in self._session.get_outputs()}
        if names != ({"load", "sun"}, {"load_share", "sun_share"}):
            raise ModelFault(f"it takes {sorted(names[0])} and gives {sorted(names[1])}, not load and sun")

    def expect(self, load: Features | None, sun: Features | None) -> tuple[Array | None, Array | None]:
        """Power of each quarter hour to come [W], of the quantities given. Raises ModelFault."""
        none = np.zeros((HORIZON, len(NAMES)), np.float32)
        given = dict(zip(_QUANTITIES, (load, sun), strict=True))
        try:
            said = self._session.run(
                [f"{name}_share" for name in _QUANTITIES],
                {name: none if rows is None else rows.rows for name, rows in given.items()},
            )
        except Exception as error:
            raise ModelFault(f"it does not run: {_line(error)}") from error
        load_w, sun_w = (
            None if rows is None else _checked(name, shares) * rows.scale_w
            for (name, rows), shares in zip(given.items(), said, strict=True)
        )
        return load_w, sun_w


def _checked(name: str, shares: Any) -> npt.NDArray[np.float64]:
    found = np.asarray(shares)
    if found.shape != (HORIZON,) or found.dtype.kind != "f":
        raise ModelFault(f"its {name} is {found.dtype} of shape {found.shape}, not {HORIZON} powers")
    if not np.isfinite(found).all():
        raise ModelFault(f"its {name} is not finite")
    if np.abs(found).max() > MOST_SHARES:
        raise ModelFault(f"its {name} is {np.abs(found).max():.3g} times what is usual here")
    return np.maximum(found.astype(np.float64), 0.0)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
