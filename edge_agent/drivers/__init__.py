"""Devices: one owner per connection. What a driver can do is told by the protocols of edge_agent.model.devices."""

from edge_agent.drivers.device import SunSpecDevice, open_device
from edge_agent.model.devices import Device

__all__ = ["Device", "SunSpecDevice", "open_device"]
