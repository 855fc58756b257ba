"""Metrics: how good images are, beside a reference or as a set. They know no model."""
