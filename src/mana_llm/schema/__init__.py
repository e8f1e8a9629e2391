"""The vocabulary: typed structs that every floor shares, with no I/O and no decisions."""
