"""Door 1, inbound: one file per API that clients speak."""
