"""An alert arrives: identity, relay, enrichment."""
