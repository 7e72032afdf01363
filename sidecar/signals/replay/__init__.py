"""The engine over what was recorded."""
