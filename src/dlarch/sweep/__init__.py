"""Sweeps: one recipe under many settings, as a queue of trials that survives kills."""
