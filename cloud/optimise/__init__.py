"""Schedules with reserve held back: arrays in, arrays out."""
