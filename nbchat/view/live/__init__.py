"""An answer in a notebook while it arrives."""
