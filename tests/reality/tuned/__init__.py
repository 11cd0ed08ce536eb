"""Real mistakes that the doctor's search for edits was built on."""
