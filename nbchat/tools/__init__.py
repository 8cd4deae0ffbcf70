"""What Claude may do in the notebook."""
