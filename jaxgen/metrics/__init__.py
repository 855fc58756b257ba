"""Metrics: how good pictures are, beside a reference or as a set. They know no model."""
