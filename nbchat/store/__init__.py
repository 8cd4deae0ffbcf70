"""What lasts: what was spent, and answers as they arrive."""
