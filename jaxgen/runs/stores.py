"""Orbax in object stores. It knows Google's; TensorStore, which writes its arrays, knows Amazon's as well.

Orbax 0.12 takes an address for one of Google's, or for a folder of this machine, in four private functions. `enable`
has them treat s3:// like gs://: a checkpoint is written under its own name and ends with an object that says that it is
whole (no store can rename a folder), and arrays go through TensorStore's driver for S3.
"""

import os
from functools import cache
from pathlib import PurePath
from typing import Any

S3 = "s3://"


def enable(folder: PurePath):
    """Make Orbax able to write into a folder in Amazon's store; nothing where it lies elsewhere."""
    if str(folder).startswith(S3):
        _teach_orbax()


@cache
def _teach_orbax():
    from orbax.checkpoint._src.path import gcs_utils
    from orbax.checkpoint._src.serialization import tensorstore_utils

    normal, is_remote = tensorstore_utils._normalize_path, tensorstore_utils._use_gcs_driver
    driver = gcs_utils.get_kvstore_for_gcs
    is_s3 = lambda path: path.startswith(S3)  # noqa: E731
    patches: dict[Any, dict[str, Any]] = {
        tensorstore_utils: {
            "_normalize_path": lambda path: S3 + os.path.normpath(path[len(S3) :]) if is_s3(path) else normal(path),
            "_use_gcs_driver": lambda path: is_s3(path) or is_remote(path),
        },
        gcs_utils: {
            "get_kvstore_for_gcs": lambda path: kvstore(path) if is_s3(path) else driver(path),
            "_GCS_PATH_PREFIX": (*gcs_utils._GCS_PATH_PREFIX, S3),
        },
    }
    for module, new in patches.items():
        for name, value in new.items():
            setattr(module, name, value)


def kvstore(path: str) -> dict[str, Any]:
    """Return TensorStore's description of a folder s3://bucket/key, with what the environment says of the store."""
    bucket, _, key = path.removeprefix(S3).partition("/")
    found: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": f"{key.rstrip('/')}/"}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        found["endpoint"] = endpoint
        found["aws_region"] = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    if "AWS_ACCESS_KEY_ID" in os.environ:  # else it looks for files that are not there, and says so on stderr
        found["aws_credentials"] = {"type": "environment"}
    return found
