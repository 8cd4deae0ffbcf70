"""What a prompt may carry."""
