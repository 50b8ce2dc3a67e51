from edge_agent.tests.drivers.conftest import _encode, clock, legacy_models, models
from edge_agent.tests.sync.conftest import agent, authority, broker, coordinator

__all__ = ["_encode", "agent", "authority", "broker", "clock", "coordinator", "legacy_models", "models"]
