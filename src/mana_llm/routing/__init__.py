"""The brain: decides which provider is asked, and never parses what it says."""
