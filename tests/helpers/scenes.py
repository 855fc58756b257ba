"""Scenes for tests: posed images of a red square, as a folder with transforms.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def posed(folder: Path, size: int = 8, count: int = 10, **more: Any) -> dict[str, Any]:
    """Write views of a red square on white in the plane z = 0, from cameras behind each other."""
    frames = []
    for number in range(count):
        pixels = np.full((size, size, 3), 255, np.uint8)
        pixels[2:6, 2:6] = [200, 30, 20]
        Image.fromarray(pixels).save(folder / f"{number}.png")
        pose = np.eye(4)
        pose[2, 3] = 3 + number / 10
        frames.append({"file_path": f"{number}", "transform_matrix": pose.tolist()})
    values = {"camera_angle_x": 0.8, "frames": frames} | more
    (folder / "transforms.json").write_text(json.dumps(values))
    return values
