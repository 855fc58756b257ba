"""Normalising flows: invertible nets, with likelihoods and exact latents."""
