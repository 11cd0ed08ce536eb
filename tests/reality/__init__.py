"""Mistakes that people made in public, each rebuilt as a small program.

`tuned` are those that the doctor's search was built on; `fresh` were collected afterwards, and what
they need was written down before the doctor saw them. `scripts/campaigns/real_mistakes.py` prints
what is said of each.
"""
