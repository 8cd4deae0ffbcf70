"""The view of an answer in a notebook while the answer arrives."""
