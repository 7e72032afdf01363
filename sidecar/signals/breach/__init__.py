"""When a limit is crossed: odds, calibrated over all limits, and the time of it."""
