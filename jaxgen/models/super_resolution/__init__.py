"""Super-resolution: images are enlarged."""
