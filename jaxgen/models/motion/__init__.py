"""Models of motion: they predict the next poses of a body."""
