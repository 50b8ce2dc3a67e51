"""Plants, rigs, scenarios and benchmarks: where the agent and the coordinator are proven."""
