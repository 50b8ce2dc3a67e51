"""What the sync process and the process that runs a model tell each other."""

from typing import Annotated

import msgspec

from edge_agent.forecast.horizon import DAY, HISTORY, HORIZON

JUDGED_DAYS = 3
PAST = HISTORY + JUDGED_DAYS * DAY  # quarter hours that are told, so that the last days can be forecast once more

_Past = Annotated[tuple[float | None, ...], msgspec.Meta(min_length=PAST, max_length=PAST)]
_Powers = Annotated[tuple[float, ...], msgspec.Meta(min_length=HORIZON, max_length=HORIZON)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run this model once."""

    model: str  # path of the file
    check: bool  # it is new: try it on the built-in sample, too
    weekday: int  # of the first quarter hour to come, 0 is Monday
    quarter: int  # of its day, 0..95
    load_w: _Past  # mean power of each past quarter hour, the oldest first; None: not measured
    sun_w: _Past


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What came of it. A quantity is None where the site has measured too little of it."""

    fault: str = ""  # why the model cannot be used; then there is nothing else
    load_w: _Powers | None = None
    sun_w: _Powers | None = None
    error_w: float | None = None  # mean absolute error of load and sun over the last days; None: cannot be told yet
    persistence_error_w: float | None = None  # of seasonal persistence over the same
