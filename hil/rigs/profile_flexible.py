"""A simulated charger or heater of any profile: registers before a plant that draws.

What it obeys ends as its profile says, from the last word; then a charger falls back to the current that it was given
for that, or that is set on the device itself, and a heater to its own thermostat.
"""

from collections.abc import Callable
from typing import Final

from edge_agent.drivers.profile import Profile, Step
from edge_agent.drivers.transaction import Write
from hil.plant.charger import Charger, ChargerRating
from hil.plant.heater import Heater, HeaterRating
from hil.rigs.profile_device import ProfileDevice, Values

# A state's number where no vehicle is there, and the texts of IEC 61851.
_AWAY: Final[dict[bool, float | str]] = {False: 0.0, True: "A"}


ORDINARY: Final = Values()


def simulated(profile: Profile, values: Values = ORDINARY, *, now_s: Callable[[], float]) -> ProfileDevice:
    """A device of any profile: where it is a charger or a heater, an ordinary one, no vehicle plugged in."""
    if profile.ev_charger is not None:
        charger = Charger(ChargerRating(max_draw_w=11_040.0, least_draw_w=4_140.0))
        return FlexibleProfileDevice(profile, charger, values, now_s=now_s)
    if profile.flexible_load is not None:
        return FlexibleProfileDevice(profile, Heater(HeaterRating(), temperature_c=55.0), values, now_s=now_s)
    return ProfileDevice(profile, values, now_s=now_s)


class FlexibleProfileDevice(ProfileDevice):
    """Registers and a plant on one clock."""

    def __init__(
        self,
        profile: Profile,
        plant: Charger | Heater,
        values: Values = ORDINARY,
        *,
        now_s: Callable[[], float],
        phases: int = 3,
        voltage_v: float = 230.0,
        most_a: float = 16.0,
        set_fallback_a: float = 6.0,
    ) -> None:
        """set_fallback_a: fail-safe current as it is set on the device, where its registers do not hold one."""
        self.plant = plant
        self._v = phases * voltage_v
        self._most_a = most_a
        self._set_fallback_a = set_fallback_a
        self._start_s = now_s()
        self._told_w: float | None = None  # by what was written last; a register may show something else by now
        super().__init__(profile, values, now_s=now_s)

    @property
    def commanded_w(self) -> float | None:
        if self.written_s is None or self._now_s() - self.written_s >= self.lasts_s():
            return None
        return self._told_w

    @property
    def power_w(self) -> float:
        self.to_present()
        return self.plant.power_w

    def to_present(self) -> None:
        """Lets the plant live until now; a command that ran out on the way ended at its instant."""
        now_s = self._now_s()
        if self.written_s is not None and self.lasts_s() > 0 and self.written_s + self.lasts_s() <= now_s:
            self.plant.advance(self.written_s + self.lasts_s() - self._start_s)
            self.plant.asked_w = self._fallback_w()
        self.plant.advance(now_s - self._start_s)

    def write(self, function: Write, address: int, words: list[int]) -> None:
        self.to_present()
        super().write(function, address, words)
        self._told_w = self._told()
        self.plant.asked_w = self.commanded_w

    def shown(self) -> dict[str, float | str]:
        self.to_present()
        plant, profile = self.plant, self.profile
        found: dict[str, float | str] = {"nameplate.max_current_a": self._most_a}
        if isinstance(plant, Charger) and profile.ev_charger is not None:
            there = profile.ev_charger.plugged[0].are[-1]
            found["ev_charger.plugged"] = there if plant.plugged else _AWAY[isinstance(there, str)]
            found["ev_charger.power_w"] = plant.power_w
            found["ev_charger.session_wh"] = plant.drawn_wh
        elif isinstance(plant, Heater):
            found["flexible_load.power_w"] = plant.power_w
            found["flexible_load.temperature_c"] = plant.temperature_c
        return found

    def _told(self) -> float | None:
        control = self.profile.control
        if control is None or self._is_released():
            return None
        due = [step for step in control.setpoint if self._stands(step)]
        carrying = next((step for step in due if step.carries in ("current", "magnitude", "power")), None)
        if carrying is None:  # switched off
            return 0.0
        per_unit = self._v if carrying.carries == "current" else 1.0
        return -abs(self.raw(carrying) * carrying.factor) * per_unit or 0.0

    def _stands(self, step: Step) -> bool:
        """Whether what the registers hold is what this step belongs to: charging, or resting."""
        control = self.profile.control
        switches = [s for s in (control.setpoint if control is not None else ()) if s.when and s.value is not None]
        if step.when is None or not switches:
            return True
        return any(s.when == step.when and self.raw(s) == s.value for s in switches)

    def _is_released(self) -> bool:
        """By its lifetime, where it was taken back; by writing the most, where that is all there is to releasing."""
        control = self.profile.control
        if control is None or not control.release:
            return False
        return all(
            self.raw(step) == (step.value if step.value is not None else self._most_a / step.factor)
            for step in control.release
        )

    def _fallback_w(self) -> float | None:
        if isinstance(self.plant, Heater):
            return None
        control = self.profile.control
        steps = [step for step in (control.steps if control is not None else ()) if step.carries == "fallback"]
        held_a = [self.raw(step) * step.factor for step in steps]
        return -self._v * (held_a[0] if held_a and held_a[0] else self._set_fallback_a)
