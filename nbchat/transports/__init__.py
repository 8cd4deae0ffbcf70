"""Ways to answer a Request. Blind to each other."""
