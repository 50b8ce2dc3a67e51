"""Simulated homes as devices: the plant behind SunSpec registers over Modbus TCP, recorded at the device side."""
