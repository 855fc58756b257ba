"""Classifiers: accuracy, features for scores and styles, and guidance."""
