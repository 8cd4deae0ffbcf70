"""An agent loop that has never heard of a notebook."""
