"""The coordinator and its console."""
