"""gRPC for agents, and the broker that the coordinator runs."""
