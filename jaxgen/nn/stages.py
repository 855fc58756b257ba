"""How often a net halves an image."""

from jaxgen.core.errors import InputError


def count_stages(height: int, width: int) -> int:
    """Return how many times a stride of 2 takes the image's short side down towards 4 pixels."""
    stages = max((min(height, width) // 4).bit_length() - 1, 0)
    if stages < 1 or height % (1 << stages) or width % (1 << stages):
        multiple = 1 << max(stages, 1)
        raise InputError(
            f"These nets can't make {height}x{width} images: both sides must be multiples of {multiple}, at least 8."
        )
    return stages
