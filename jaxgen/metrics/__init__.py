"""Metrics of images, against references or as sets. They do not depend on models."""
