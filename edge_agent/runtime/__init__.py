"""The fixed-rate loop, the two processes and their configuration."""
