"""Translation: images become images of another kind, or get the style of a painting."""
