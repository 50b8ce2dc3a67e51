"""Scenarios as TOML data; `hil.rigs.scenario` reads them."""
