"""The temperature of a thermistor (NTC) by its beta equation, in floats: it is asked once a second.

1/T = 1/T25 + ln(R/R25) / B. The divider is: supply, series resistor, converter's pin, thermistor, ground. With single
floats, as the boards have them, the arithmetic errs by less than 0.1 degrees from -40 to 125.
"""

import math

ZERO_C_K = 273.15
T25_K = 298.15


def temperature_dc(counts, series_ohm, r25_ohm, beta_k):
    """Tenths of a degree from 16-bit counts; None where the sensor is broken or shorted."""
    if not 300 < counts < 65236:
        return None
    ohm = series_ohm * counts / (65536 - counts)
    kelvin = 1 / (1 / T25_K + math.log(ohm / r25_ohm) / beta_k)
    return round(10 * (kelvin - ZERO_C_K))
