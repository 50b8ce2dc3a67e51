"""The last check before any write."""
