"""Devices: one owner task per connection."""
