"""Promantis: a sidecar of Prometheus that sees alerts coming, explains them and proposes the fix."""

import os

__version__ = "0.1.0"

# Before anything imports numpy: its products of small matrices gain nothing from a second thread, and one that waits
# for work spins, so a tick would take the core that the event loop and Prometheus need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
