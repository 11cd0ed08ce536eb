"""Somebody's file of NumPy: read as it is, run in a process of its own, and examined."""
