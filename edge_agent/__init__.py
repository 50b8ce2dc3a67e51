"""The agent that is installed on a home gateway."""
