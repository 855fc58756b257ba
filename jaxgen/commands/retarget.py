"""python -m jaxgen retarget: a motion on another character."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxgen.core.errors import InputError
from jaxgen.media import output_files

Take = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TAKE")]


def retarget(take: Take, to: Path, out: Path | None = None, contacts: bool = True, overwrite: bool = False):
    """Move another character by a motion, by rule.

    Arms and legs point where those of the take point, the torso and the feet turn as they do there, and the way is
    scaled by the length of the legs. Then the legs are bent so that feet stand on the ground where they do in the take.

    Args:
        take: a .bvh or .npz, or a .txt or .json as `mocap:` reads them
        to: a motion of the character, of which only the skeleton is used, in the same kinds of files
        out: the output file: a .bvh with the channels of the character, a .glb for 3-D programs, a .npz, or a .gif or
            .mp4 of a drawn figure; unset: TAKE-retargeted.bvh
        contacts: bend the legs so that feet stand
        overwrite: replace existing files
    """
    from jaxgen.data import bvh
    from jaxgen.data.motion_files import open_motion
    from jaxgen.data.retargeting import retargeted
    from jaxgen.media.motion_output import ENDINGS, check_motion, save_motion

    target = out or take.with_name(f"{take.stem}-retargeted.bvh")
    output_files.check(target, ENDINGS, overwrite, given=[take, to])
    check_motion(target)
    motion = open_motion(take)
    like = bvh.read(to) if to.suffix.lower() == ".bvh" else None
    character = open_motion(to) if like is None else like.motion
    try:
        made = retargeted(motion, character.skeleton, character, contacts)
    except InputError as error:
        raise InputError(f"{take} can't move the character of {to}: {error}") from error
    with output_files.together():
        save_motion(target, made, None, like)
    print(f"{target}: {len(made)} frames of {take} on the {len(character.skeleton)} joints of {to}.")
