"""Motions written to files: BVH, GLB, .npz, and animations of a drawn figure."""

from pathlib import Path

from jaxgen.data import bvh
from jaxgen.data.motion_files import arrays_of
from jaxgen.data.skeleton import Motion
from jaxgen.media import glb
from jaxgen.media.animation import check_animation, save_animation
from jaxgen.media.image_grid import save_npz, to_u8
from jaxgen.media.marks import Mark, marked
from jaxgen.media.skeletons import draw_motion

ENDINGS = (".bvh", ".glb", ".gif", ".mp4", ".npz")
RATE = 25  # of animations, frames in a second at most


def check_motion(path: Path):
    """Raise InputError if `save_motion` can't write a file of this type for want of an encoder."""
    if path.suffix.lower() in (".gif", ".mp4"):
        check_animation(path, RATE)


def save_motion(path: Path, motion: Motion, mark: Mark | None, like: bvh.Bvh | None = None):
    """Write a motion to one file, by its suffix, which is in ENDINGS.

    like: a BVH file of the same skeleton, of which a .bvh keeps the channels
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        save_npz(path, mark, **arrays_of(motion))
    elif suffix in (".gif", ".mp4"):
        shown = motion.at_rate(min(motion.rate, RATE))
        save_animation(path, to_u8(draw_motion(shown))[..., 0], round(shown.rate) or 1, mark)
    else:
        with marked(path, mark) as part:
            if suffix == ".glb":
                part.write_bytes(glb.glb_of(motion, glb.metres(motion)))
            else:
                part.write_text(bvh.text_of(bvh.bvh_of(motion) if like is None else like.with_motion(motion)))
