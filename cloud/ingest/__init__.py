"""Telemetry from JetStream into fleet state and history."""
