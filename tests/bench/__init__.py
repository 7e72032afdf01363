"""Speed and memory against named peers, measured in the same run: `make bench`."""

import sidecar as sidecar  # before numpy: it says how many threads that may have
