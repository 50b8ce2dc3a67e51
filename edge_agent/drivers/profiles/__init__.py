"""Profiles that come with the agent: TOML files, read by edge_agent.drivers.profile_loading."""
