"""Models with one layer of weights."""
