"""Real mistakes that were collected when the doctor's search for edits stood."""
