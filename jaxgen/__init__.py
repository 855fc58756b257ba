"""jaxgen: a model zoo of image generators in JAX."""

__version__ = "0.1.0"
