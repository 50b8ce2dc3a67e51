"""The last check before any write. Nothing reaches a register around it."""
