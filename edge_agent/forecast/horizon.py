"""How far a site looks back and ahead, in quarter hours."""

from typing import Final

STEP_S: Final = 900
DAY: Final = 96
HISTORY: Final = 28 * DAY
HORIZON: Final = 36 * 4
