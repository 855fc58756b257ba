"""Text to image: images of what a caption says, and nets that compare the two."""
