"""The user's cache folder, for what can be made again."""

import os
from pathlib import Path

import jax


def cache_folder() -> Path:
    """Return jaxgen's folder for what can be made again: $JAXGEN_CACHE, $XDG_CACHE_HOME/jaxgen or ~/.cache/jaxgen."""
    if own := os.environ.get("JAXGEN_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxgen"


def use_compilation_cache():
    """Keep what is compiled for the next start."""
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
