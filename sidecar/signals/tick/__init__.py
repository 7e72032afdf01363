"""One engine per step: rows, restart, guests, lessons, and the loop that asks, ticks and swaps."""
