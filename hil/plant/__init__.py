"""The physics behind the registers: grid frequency, load, PV, battery and inverter. No I/O, no clock of its own."""
