"""The demo: real peers, a small shop with a leak, and a story that checks itself."""
