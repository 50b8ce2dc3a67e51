from edge_agent.tests.sync.conftest import agent, authority, broker, coordinator

__all__ = ["agent", "authority", "broker", "coordinator"]
