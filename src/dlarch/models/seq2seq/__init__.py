"""Sequence to sequence: models that read one sequence and write another."""
