"""The views: what a person sees of an answer, in a notebook, in a terminal or in a file."""
