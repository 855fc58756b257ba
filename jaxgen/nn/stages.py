"""Number of stride-2 downsampling stages of a network."""

from jaxgen.core.errors import InputError


def count_stages(height: int, width: int) -> int:
    """Return the number of stride-2 stages that reduce the short side of an image to about 4 pixels."""
    stages = max((min(height, width) // 4).bit_length() - 1, 0)
    if stages < 1 or height % (1 << stages) or width % (1 << stages):
        multiple = 1 << max(stages, 1)
        raise InputError(
            f"This network cannot make {height}x{width} images: both sides must be multiples of {multiple}, at least 8."
        )
    return stages
