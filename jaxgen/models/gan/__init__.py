"""Generative adversarial networks: they draw images in one step."""
