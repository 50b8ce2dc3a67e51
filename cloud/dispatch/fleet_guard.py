"""How far one grid connection area may be moved by what the coordinator sends: step, ramp, changes of direction. Pure.

Judged is the power that is asked of the area in total, before it is sent. What answers the grid's frequency by itself
is not asked for by anybody, and an emergency stop is never held up.
"""

from dataclasses import dataclass, replace
from typing import Final

MINUTE_S: Final = 60
HOUR_MS: Final = 3_600_000
TURN_SHARE: Final = 0.1  # of the greatest step: back by less is no change of direction


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaLimits:
    """What an area stands, without a second person."""

    step_w: float  # at once
    ramp_w_per_min: float  # in any minute, one way
    turns_per_hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaState:
    """What was asked of an area lately."""

    power_w: float = 0.0
    moves: tuple[tuple[int, float, float], ...] = ()  # (second, W up, W down) of the last minute
    upwards: bool | None = None  # the direction since the last turn; None before the first move
    farthest_w: float = 0.0  # since the last turn
    turns_ms: tuple[int, ...] = ()  # in the last hour


def judge(limits: AreaLimits, state: AreaState, power_w: float, now_ms: int) -> tuple[AreaState, str]:
    """The area's state if it is asked for `power_w`, and why that needs a second person; empty if it does not."""
    change_w = power_w - state.power_w
    second = now_ms // 1000
    moves = [move for move in state.moves if second - MINUTE_S < move[0] < second]
    _, up_w, down_w = state.moves[-1] if state.moves and state.moves[-1][0] == second else (second, 0.0, 0.0)
    moves.append((second, up_w + max(0.0, change_w), down_w + max(0.0, -change_w)))
    turns_ms = tuple(turn_ms for turn_ms in state.turns_ms if now_ms - turn_ms < HOUR_MS)
    asked = replace(state, power_w=power_w, moves=tuple(moves), turns_ms=turns_ms)
    asked = _turned(asked, change_w, limits.step_w * TURN_SHARE, now_ms)
    if abs(change_w) > limits.step_w:
        return asked, f"a step of {change_w / 1e3:+.0f} kW is more than {limits.step_w / 1e3:.0f} kW"
    one_way_w = sum(up_w if change_w > 0 else down_w for _, up_w, down_w in moves)
    if change_w and one_way_w > limits.ramp_w_per_min:
        way = "up" if change_w > 0 else "down"
        return asked, f"{one_way_w / 1e3:.0f} kW {way} in a minute are more than {limits.ramp_w_per_min / 1e3:.0f} kW"
    if len(asked.turns_ms) > limits.turns_per_hour and len(asked.turns_ms) > len(turns_ms):
        return asked, f"it turns round more than {limits.turns_per_hour} times in an hour"
    return asked, ""


def _turned(asked: AreaState, change_w: float, turn_w: float, now_ms: int) -> AreaState:
    """The direction after a change, and the turn that it may be."""
    if change_w == 0.0:
        return asked
    if asked.upwards is None:
        return replace(asked, upwards=change_w > 0, farthest_w=asked.power_w)
    farther_w = asked.power_w - asked.farthest_w if asked.upwards else asked.farthest_w - asked.power_w
    if farther_w >= 0:
        return replace(asked, farthest_w=asked.power_w)
    if farther_w >= -turn_w:
        return asked
    return replace(asked, upwards=not asked.upwards, farthest_w=asked.power_w, turns_ms=(*asked.turns_ms, now_ms))
