"""Large fleets as arrays: what a coordinator sees of them, and what they really do."""
