"""Values of the agent: they import nothing of ours."""
