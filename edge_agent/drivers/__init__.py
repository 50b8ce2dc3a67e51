"""Devices: one owner per connection. What a driver can do is told by the protocols of edge_agent.model.devices."""

from edge_agent.drivers.opening import open_device, profile_of
from edge_agent.drivers.rtu import SerialLines
from edge_agent.model.devices import Device

__all__ = ["Device", "SerialLines", "open_device", "profile_of"]
