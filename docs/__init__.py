"""What there is to read, and (in `generate`) what writes the part of it that the code already says."""
