"""Door 2, outbound: one file per API that we call."""
