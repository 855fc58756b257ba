"""Autoencoders and VAEs: they encode images into latents, draw images, and give likelihoods."""
