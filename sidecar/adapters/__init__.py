"""The only modules that go out: Prometheus, Alertmanager, HTTP targets, the journal on disk."""
