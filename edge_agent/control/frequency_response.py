"""Which law answers for a service, by its own numbers."""

from edge_agent.control.curve_response import CurveLaw
from edge_agent.control.inertia_response import InertiaLaw
from edge_agent.control.response import Phase, ResponseLaw, ResponseState
from edge_agent.control.signal_response import SignalLaw
from edge_agent.control.trigger_response import TriggerLaw
from protos.services import Service

__all__ = ["Phase", "ResponseLaw", "ResponseState", "law"]


def law(service: Service, *, contracted_w: float, rated_power_w: float) -> ResponseLaw:
    """The law of a service for an inverter of this rating [W]."""
    scale = rated_power_w / contracted_w
    if service.trigger is not None:
        return TriggerLaw(
            trigger=service.trigger,
            nominal_hz=service.nominal_hz,
            full_delivery_s=service.timing.full_delivery_s,
        )
    if service.inertia is not None:
        scale = scale if service.inertia.reference == "rating" else 1.0
        return InertiaLaw(inertia=service.inertia, nominal_hz=service.nominal_hz, scale=scale)
    if service.signal is not None:
        return SignalLaw(signal=service.signal)
    assert service.curve is not None, "protos.services.parse lets nothing else pass"  # noqa: S101
    scale = scale if service.curve.reference == "rating" else 1.0
    return CurveLaw(curve=service.curve, nominal_hz=service.nominal_hz, scale=scale)
