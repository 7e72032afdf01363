"""What breaks on the way of an alert, each for half a minute under load, in both modes: `make soak`."""
