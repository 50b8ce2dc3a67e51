"""Load and PV of the hours ahead: arrays in, arrays out."""
