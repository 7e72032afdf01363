"""What to look at: PromQL, rules, presets and configured queries become watches; the calendar."""
