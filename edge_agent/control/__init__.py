"""Controllers: pure functions of a Snapshot, and the arbiter that merges what they propose."""
