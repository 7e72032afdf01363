"""The one place that knows everyone: build, start, reload, stop."""
