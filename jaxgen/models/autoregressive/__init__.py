"""Autoregressive models: images pixel by pixel, with exact likelihoods."""
