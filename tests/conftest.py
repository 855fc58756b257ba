"""Eight fake CPU devices, strict promotion of ranks, the compilation cache, and the real data."""

import os
from pathlib import Path

import jax
import pytest

from jaxgen.cache import cache_folder, use_compilation_cache

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

use_compilation_cache()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, or a skip that says why there is none."""
    folder = os.environ.get("JAXGEN_TEST_DATA")
    if not folder:
        pytest.skip("JAXGEN_TEST_DATA does not name the folder of real data")
    return Path(folder).absolute()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What a command that a test starts runs in: one CPU device, the same compilation cache."""
    return {**os.environ, "JAXGEN_CACHE": str(cache_folder()), "PYTHONWARNINGS": "error", "COLUMNS": "120"}
