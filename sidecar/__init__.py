"""Promantis: a sidecar of Prometheus that sees alerts coming, explains them and proposes the fix."""

__version__ = "0.1.0"
