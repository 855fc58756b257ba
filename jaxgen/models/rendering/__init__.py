"""Scenes learned from posed images by neural nets: radiance fields."""
