"""What several rings of the tests need."""
