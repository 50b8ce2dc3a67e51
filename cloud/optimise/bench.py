"""How long a home's schedule takes to solve."""

from collections.abc import Callable

import numpy as np

from cloud.optimise.problem import Array, Horizon, ReserveTerms, Storage
from cloud.optimise.schedule import Problem, solve


def example(seed: int, *, units: int = 97, mtu_s: int = 900) -> Problem:
    """A home with a day of load, sun and a two-step tariff, all drawn from `seed`; reserve in the first units."""
    rng = np.random.default_rng(seed)
    hour = (12 + np.arange(units) * mtu_s / 3600) % 24
    tariff = np.where((hour >= 15) & (hour < 20), 0.54, 0.22)
    delivery = np.zeros(units, dtype=bool)
    delivery[:2] = True
    capacity_wh = float(rng.uniform(5_000, 15_000))
    return Problem(
        storage=Storage(
            rated_power_w=5_000.0,
            max_charge_w=5_000.0,
            max_discharge_w=5_000.0,
            capacity_wh=capacity_wh,
            soc_min=0.1,
            soc_max=0.95,
        ),
        horizon=Horizon(
            mtu_s=mtu_s,
            load_w=rng.gamma(2.0, 400.0, units),
            pv_w=np.clip(4_000 * np.sin((hour - 6) / 12 * np.pi), 0.0, None) * rng.uniform(0.6, 1.0, units),
            import_price=tariff,
            export_price=tariff,
            terminal_value=0.3,
        ),
        soc=float(rng.uniform(0.2, 0.9)),
        reserve=ReserveTerms(
            units=delivery,
            sustain_s=900.0,
            upward=True,
            downward=False,
            limit_w=3_000.0,
            delivery_h=0.5,
            price_per_mw_h=20.0,
        ),
    )


def solve_seconds(homes: int, monotonic_s: Callable[[], float]) -> Array:
    """Seconds that each of `homes` example homes took to plan, building the programme included."""
    taken = np.empty(homes)
    for seed in range(homes):
        problem = example(seed)
        begun = monotonic_s()
        solve(problem)
        taken[seed] = monotonic_s() - begun
    return taken
