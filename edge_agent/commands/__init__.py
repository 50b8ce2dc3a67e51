"""What `vpp-agent` does beside running: each module is imported only by the command that needs it."""
