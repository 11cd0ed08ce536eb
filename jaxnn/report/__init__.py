"""What a person sees of a run: the console, the pictures and the page."""
