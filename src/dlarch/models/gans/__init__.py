"""Generators that learn from critics, which tell what they make from what is real."""
