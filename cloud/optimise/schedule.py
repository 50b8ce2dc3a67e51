"""A home's schedule as a linear programme in HiGHS, with reserve co-optimised.

Minimises, over the horizon's units t of h hours (powers in kW, energies in kWh inside the programme):

    sum(import_t p_t - export_t q_t) h  +  wear (charge_t + discharge_t) h / 2  -  value e_N  -  price reserve hours

    pv_t + discharge_t - charge_t + import_t - export_t = load_t          the point of common coupling
    e_t = e_(t-1) + h (eta_c charge_t - discharge_t / eta_d)              the storage
    -rating <= pv_t + discharge_t - charge_t <= rating                    the inverter

and in every unit of the delivery period, for reserve r sustained for s hours (upward; downward mirrors it):

    pv_t + discharge_t - charge_t + r <= rating         power is left at the inverter
    discharge_t - charge_t + r <= max discharge         and in the storage alone: reserve never relies on the sun
    e - r s / eta_d >= e_min  at both ends of the unit  and so is the energy

Where a price is not positive, and until the delivery is over, the storage may not charge and discharge at once: burning
energy would earn money there, or make room for reserve that no real storage has. Where the programme tries, binaries
forbid it. There is always a plan: the storage at rest is feasible, with what reserve that leaves; an award that does
not fit is held as far as it goes and the rest is reported as a shortfall. Solving is bounded in time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cloud.optimise import programme
from cloud.optimise.problem import Array, Horizon, Plan, ReserveTerms, Storage
from cloud.optimise.programme import Rows

TIME_LIMIT_S = 2.0
TOLERANCE_KW = 1e-5
AWARD_VALUE_PER_KW = 1e4
"""An award is held before anything else: far above what a kW could earn in a day of any tariff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One home to be planned."""

    storage: Storage
    horizon: Horizon
    soc: float  # now
    reserve: ReserveTerms | None = None


def solve(problem: Problem, *, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """The cheapest schedule found within the time limit. Raises ValueError for a problem that contradicts itself."""
    return _solve(programme.new_solver(time_limit_s), problem)


def solve_all(problems: Iterable[Problem], *, time_limit_s: float = TIME_LIMIT_S) -> list[Plan]:
    """A plan for each, in order; the time limit is for one."""
    return [_solve(programme.new_solver(time_limit_s), problem) for problem in problems]


def opportunity_cost(problem: Problem, reserve_w: float, *, time_limit_s: float = TIME_LIMIT_S) -> float:
    """What holding this much reserve costs the home [currency]: the dearer schedule less the free one.

    Raises ValueError where the problem has no reserve terms.
    """
    if problem.reserve is None:
        raise ValueError("opportunity cost of reserve: the problem has no reserve terms")
    free, held = solve_all(
        (replace(problem, reserve=replace(problem.reserve, awarded_w=w)) for w in (0.0, reserve_w)),
        time_limit_s=time_limit_s,
    )
    return max(0.0, held.cost - free.cost)


def _solve(solver: programme.Solver, problem: Problem) -> Plan:
    storage, horizon, reserve = problem.storage, problem.horizon, problem.reserve
    if not 0 <= problem.soc <= 1:
        raise ValueError(f"soc {problem.soc}: 0..1")
    if reserve is not None and reserve.units.shape != horizon.load_w.shape:
        raise ValueError("reserve units: one value a unit of the horizon")
    n, hours = horizon.units, horizon.mtu_s / 3600
    rating, max_charge, max_discharge = (
        storage.rated_power_w / 1e3,
        storage.max_charge_w / 1e3,
        storage.max_discharge_w / 1e3,
    )
    capacity, start = storage.capacity_wh / 1e3, problem.soc * storage.capacity_wh / 1e3
    # A storage found outside its band need not be back at once, but must not go further out.
    floor, ceiling = min(storage.soc_min * capacity, start), max(storage.soc_max * capacity, start)
    load, pv = horizon.load_w / 1e3, np.maximum(horizon.pv_w, 0.0) / 1e3

    charge, discharge, sun, bought, sold, energy = (np.arange(n) + block * n for block in range(6))
    held, columns = 6 * n, 6 * n + 1
    cost = np.zeros(columns)
    upper = np.full(columns, np.inf)
    lower = np.zeros(columns)
    cost[charge] = cost[discharge] = storage.wear_per_kwh * hours / 2
    cost[bought], cost[sold] = horizon.import_price * hours, -horizon.export_price * hours
    cost[energy[-1]] = -horizon.terminal_value
    upper[charge], upper[discharge], upper[sun] = max_charge, max_discharge, pv
    upper[bought], upper[sold] = np.maximum(load, 0.0) + rating, rating + np.maximum(-load, 0.0)
    lower[energy], upper[energy] = floor, ceiling

    rows = Rows()
    ones = np.ones(n)
    terminals: list[tuple[npt.NDArray[np.int64], Array | float]] = [(sun, 1.0), (discharge, 1.0), (charge, -1.0)]
    rows.add([*terminals, (bought, 1.0), (sold, -1.0)], load, load)
    balance: list[tuple[npt.NDArray[np.int64], Array | float]] = [
        (energy, 1.0),
        (charge, -hours * storage.charge_efficiency),
        (discharge, hours / storage.discharge_efficiency),
    ]
    balances = slice(rows.count, rows.count + n)
    rows.add([(a[:1], v) for a, v in balance], np.array([start]), np.array([start]))
    if n > 1:
        steps = [(a[1:], v) for a, v in balance]
        rows.add([*steps, (energy[:-1], -1.0)], np.zeros(n - 1), np.zeros(n - 1))
    rows.add(terminals, -rating * ones, rating * ones)

    reserve_limit = 0.0
    if reserve is not None and reserve.units.any():
        wanted = reserve.limit_w if reserve.awarded_w is None else reserve.awarded_w
        reserve_limit = max(0.0, wanted / 1e3)
        price = reserve.price_per_mw_h / 1e3 * reserve.delivery_h
        cost[held] = -AWARD_VALUE_PER_KW if reserve.awarded_w is not None else -price
        at = np.flatnonzero(reserve.units)
        reserve_limit = min(
            reserve_limit, _hold(rows, storage, reserve, at, held, (charge, discharge, sun, energy), start)
        )
    upper[held] = reserve_limit

    values = programme.run(solver, cost, lower, upper, rows, columns)
    at_once = _burning_pays(horizon, reserve)
    if values is not None and np.minimum(values[charge], values[discharge])[at_once].max(initial=0.0) > TOLERANCE_KW:
        # Seldom, and dearer to solve, so only where the plain programme does it: a yes or no for each such unit.
        either = np.arange(columns, columns + at_once.size)
        cost, lower = np.append(cost, np.zeros(at_once.size)), np.append(lower, np.zeros(at_once.size))
        upper = np.append(upper, np.ones(at_once.size))
        none = np.full(at_once.size, -np.inf)
        rows.add([(charge[at_once], 1.0), (either, -max_charge)], none, np.zeros(at_once.size))
        rows.add([(discharge[at_once], 1.0), (either, max_discharge)], none, np.full(at_once.size, max_discharge))
        values = programme.run(solver, cost, lower, upper, rows, columns)
    if values is None and reserve is not None and programme.infeasible(solver):
        # Found outside its band, the storage cannot come back into it before the delivery: no reserve at all.
        plan = _solve(solver, replace(problem, reserve=None))
        return replace(plan, shortfall_w=max(0.0, reserve.awarded_w or 0.0))
    if values is None:
        return _at_rest(problem, reserve_limit)
    power = np.clip(values[sun] + values[discharge] - values[charge], -rating, rating)
    stored = np.concatenate(([start], np.clip(values[energy], floor, ceiling)))
    plan = _plan(
        problem, power, stored, float(values[held]), values[charge] + values[discharge], programme.status(solver)
    )
    return replace(plan, stored_value_per_kwh=_stored_value(problem, programme.duals(solver, balances)))


def _stored_value(problem: Problem, costs: Array | None) -> Array | None:
    """What a kWh more in the storage at the end of each unit is worth to the plan [currency/kWh].

    The dual of the storage's balance, kept within what energy can be bought and sold for here: where an award binds, it
    would be the price of the award and not of energy. None where the solver cannot say.
    """
    if costs is None:
        return None
    storage, horizon = problem.storage, problem.horizon
    highest = max(horizon.import_price.max() * storage.discharge_efficiency, horizon.terminal_value)
    lowest = min(horizon.export_price.min() * storage.discharge_efficiency, horizon.terminal_value, highest)
    value: Array = np.clip(-costs, lowest, highest)
    return value


def _burning_pays(horizon: Horizon, reserve: ReserveTerms | None) -> npt.NDArray[np.int64]:
    """Units in which charging and discharging at once could pay: at prices of 0 or less, and until delivery ends."""
    pays = np.minimum(horizon.import_price, horizon.export_price) <= 0
    if reserve is not None and reserve.units.any():
        pays[: int(np.flatnonzero(reserve.units)[-1]) + 1] = True
    return np.flatnonzero(pays)


def _hold(
    rows: Rows,
    storage: Storage,
    reserve: ReserveTerms,
    at: npt.NDArray[np.int64],
    held: int,
    columns: tuple[npt.NDArray[np.int64], ...],
    start: float,
) -> float:
    """Adds the reserve's rows for the units `at`; returns what the energy stored now (`start`) bounds it to [kW]."""
    charge, discharge, sun, energy = columns
    rating, capacity = storage.rated_power_w / 1e3, storage.capacity_wh / 1e3
    sustain_h = reserve.sustain_s / 3600
    reserve_column = np.full(at.size, held)
    infinite, limit = np.full(at.size, np.inf), np.inf
    # Energy at both ends of each unit; the first unit's beginning is known, hence a bound rather than a row.
    ends = np.unique(np.concatenate((at, at - 1)))
    ends = ends[ends >= 0]
    end_column, end_infinite = np.full(ends.size, held), np.full(ends.size, np.inf)
    if reserve.upward:
        per_kw = sustain_h / storage.discharge_efficiency
        floor = storage.soc_min * capacity
        output = [(sun[at], 1.0), (discharge[at], 1.0), (charge[at], -1.0), (reserve_column, 1.0)]
        rows.add(list(output), -infinite, np.full(at.size, rating))
        rows.add(list(output[1:]), -infinite, np.full(at.size, storage.max_discharge_w / 1e3))
        rows.add(
            [(energy[ends], 1.0), (end_column, np.full(ends.size, -per_kw))], np.full(ends.size, floor), end_infinite
        )
        if at[0] == 0 and per_kw > 0:
            limit = min(limit, (start - floor) / per_kw)
    if reserve.downward:
        per_kw = sustain_h * storage.charge_efficiency
        ceiling = storage.soc_max * capacity
        output = [(sun[at], 1.0), (discharge[at], 1.0), (charge[at], -1.0), (reserve_column, -1.0)]
        rows.add(list(output), np.full(at.size, -rating), infinite)
        rows.add(list(output[1:]), np.full(at.size, -storage.max_charge_w / 1e3), infinite)
        rows.add(
            [(energy[ends], 1.0), (end_column, np.full(ends.size, per_kw))], -end_infinite, np.full(ends.size, ceiling)
        )
        if at[0] == 0 and per_kw > 0:
            limit = min(limit, (ceiling - start) / per_kw)
    return max(0.0, limit)


def _at_rest(problem: Problem, reserve_limit_kw: float) -> Plan:
    """The storage rests and the sun feeds what the inverter takes: needs no solver. Reserve: what that leaves."""
    storage, horizon, reserve = problem.storage, problem.horizon, problem.reserve
    rating = storage.rated_power_w / 1e3
    power = np.minimum(np.maximum(horizon.pv_w, 0.0) / 1e3, rating)
    stored = np.full(horizon.units + 1, problem.soc * storage.capacity_wh / 1e3)
    held = 0.0
    if reserve is not None and reserve.units.any():
        held = reserve_limit_kw
        sustain_h = reserve.sustain_s / 3600
        if reserve.upward:
            room = (problem.soc - storage.soc_min) * storage.capacity_wh / 1e3 * storage.discharge_efficiency
            held = min(held, storage.max_discharge_w / 1e3, room / sustain_h if sustain_h else np.inf)
        if reserve.downward:
            room = (storage.soc_max - problem.soc) * storage.capacity_wh / 1e3 / storage.charge_efficiency
            held = min(held, storage.max_charge_w / 1e3, rating, room / sustain_h if sustain_h else np.inf)
        held = max(0.0, held)
        if reserve.upward:  # the sun yields where it stands in the way
            power[reserve.units] = np.minimum(power[reserve.units], max(0.0, rating - held))
            held = min(held, rating)
    return _plan(problem, power, stored, held, np.zeros(horizon.units), "at rest")


def _plan(problem: Problem, power_kw: Array, stored_kwh: Array, held_kw: float, through_kw: Array, status: str) -> Plan:
    storage, horizon, reserve = problem.storage, problem.horizon, problem.reserve
    hours = horizon.mtu_s / 3600
    grid = power_kw - horizon.load_w / 1e3
    price = np.where(grid >= 0, horizon.export_price, horizon.import_price)
    cost = float(-(grid * price).sum() * hours + storage.wear_per_kwh * through_kw.sum() * hours / 2)
    cost -= horizon.terminal_value * float(stored_kwh[-1])
    awarded_w = reserve.awarded_w if reserve is not None and reserve.awarded_w is not None else 0.0
    # Simplex tolerances are some 1e-7 kW; a tenth of a milliwatt is no shortfall.
    held_w = max(0.0, held_kw) * 1e3
    shortfall_w = max(0.0, awarded_w - held_w)
    capacity = storage.capacity_wh / 1e3
    return Plan(
        inverter_power_w=power_kw * 1e3,
        grid_power_w=grid * 1e3,
        soc=stored_kwh / capacity if capacity else np.zeros(stored_kwh.size),
        cost=cost,
        reserve_w=held_w,
        shortfall_w=0.0 if shortfall_w < 1e-3 else shortfall_w,
        status=status,
    )
