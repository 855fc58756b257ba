"""Video models: they predict the next frames of a clip."""
