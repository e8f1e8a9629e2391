"""Programs that renew what this checkout keeps; none of them is needed to build, to run or to test."""
