"""The sections of scripts/campaigns/benchmark.py, and what they share.

A section is a module with `TITLE`, `measure(setup)`, which returns what JSON can hold, and
`report(result)`, which says it as text.
"""
