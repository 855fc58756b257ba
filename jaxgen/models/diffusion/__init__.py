"""Diffusion and flow models: they draw images in few or many steps, and edit them."""
