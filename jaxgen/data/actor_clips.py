"""Clips of an actor with the motion that it plays: training data of motion capture, drawn from motions by rule."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec, Example
from jaxgen.data.actor_drawing import build, camera_for, draw_actor
from jaxgen.data.clips import clip_shape
from jaxgen.data.known_skeletons import BODY, SMPL
from jaxgen.data.mocap import Takes
from jaxgen.data.retargeting import retargeted
from jaxgen.data.skeleton import Motion
from jaxgen.nn import rotations
from jaxgen.nn.kinematics import forward

RATE = 25.0  # frames in a second
TURNS = len(SMPL)  # joints that turn: the first ones of the body
HIDDEN = 0.5  # share of clips with things in front of the actor


def captured_specs(frames: int) -> dict[str, ArraySpec]:
    """Return the specs of a captured motion of `BODY`.

    pose:  places f32[t j 3] of the joints, the pelvis at 0, metres
    turns: the first two columns of the rotations of the joints that turn, f32[t j 6] (Zhou et al. 2019), each in its
           parent's frame, that of the pelvis in the camera's
    root:  the pelvis's place f32[t 1 3] from the camera
    The frame of the camera is upright: x to its right, y up, z against the way that it looks.
    """
    spec = lambda joints, size, **more: ArraySpec("pose", (frames, joints, size), rate=RATE, **more)  # noqa: E731
    return {
        "pose": spec(len(BODY), 3, parents=BODY.parents),
        "turns": spec(TURNS, 6),
        "root": spec(1, 3),
    }


class ActorClips:
    """Clips u8[t h w 3] of a body of capsules, and the motions of `BODY` that they show (`captured_specs`).

    Motions of any skeleton with arms and legs are brought onto the body, at 25 frames a second, `data.stride` of them
    apart. In each example limbs, colours, camera, background and what is in front are drawn by its index; half of the
    clips have something in front. In training, they are drawn anew in each epoch, from a random start, and half of them
    are mirrored. The folder is read as by `mocap:`: put the motions of other people into `test`. What is learned is the
    motion on the body's own lengths; those of the actor differ. Raises InputError as `mocap:` does.
    """

    def __init__(self, path: Path, data: Data, example: Example, hidden: float = HIDDEN):
        self.clip, self.hidden = clip_shape(example, (16, 64, 64, 3)), hidden
        if self.clip.height != self.clip.width or self.clip.channels != 3:
            shape = (self.clip.height, self.clip.width, self.clip.channels)
            raise InputError(f"Clips of an actor are square and in colour: the model's frames are {shape}.")
        self.clips, self.stride = self.clip.names, data.stride
        self.need = (self.clip.frames - 1) * data.stride + 1
        takes = Takes(path, data, "label" in example)
        self.classes = takes.classes
        self.takes = takes.read(self.need, self.clip.frames, self._on_body)
        step = max(self.clip.frames * self.stride // 2, 1)
        self.examples = [
            (name, start) for name, take in self.takes.items() for start in range(0, len(take) - self.need + 1, step)
        ]
        self.step = step
        self.names = [f"{name}@{start}" for name, start in self.examples]
        self.labels = takes.labels([name for name, _ in self.examples])

    @staticmethod
    def _on_body(motion: Motion, where: str) -> tuple[int, Motion]:
        try:
            made = retargeted(motion.at_rate(RATE), BODY, contacts=False)
        except InputError as error:
            raise InputError(f"{where} can't be played by the actor: {error}") from error
        return len(made), made

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict:
        return self._drawn(index, self.examples[index][1], False, index)

    def draw(self, index: int, key: int) -> dict:
        """Return the example from a random start on, a function of index and key."""
        name, start = self.examples[index]
        beyond = min(start + self.step, len(self.takes[name]) - self.need + 1)
        words = np.random.Philox(key=key).random_raw(2)
        return self._drawn(index, start + int(words[0] % (beyond - start)), bool(words[1] % 2), key)

    def _drawn(self, index: int, start: int, mirrored: bool, key: int) -> dict:
        name = self.examples[index][0]
        words = np.random.Philox(key=key, counter=[0, 0, 0, 1])

        def draw(*shape: int) -> np.ndarray:
            count = int(np.prod(shape))
            return ((words.random_raw(count) >> np.uint64(11)) * 2.0**-53).reshape(shape)

        motion = self.takes[name].part(start, start + self.need, self.stride)
        if mirrored:
            motion = motion.mirrored()
        yaw = rotations.about(2 * np.pi * draw(1)[0], "Y")
        turned = motion.rotations.copy()
        turned[:, 0] = yaw @ turned[:, 0]
        motion = replace(motion, rotations=turned, root=(motion.root + BODY.offsets[0]) @ yaw.T - BODY.offsets[0])
        offsets, thick = build(draw)
        # Where legs are longer the pelvis is higher, and the way is longer.
        size = offsets[[4, 7], 1].sum() / BODY.offsets[[4, 7], 1].sum()
        places, world = forward(motion.rotations, size * motion.root, offsets, BODY.parents)
        camera = camera_for(places, draw)
        chance, more = draw(2)
        hidden = (1 + int(2 * more)) * (chance < self.hidden)
        frames = draw_actor(places, world, thick, camera, self.clip.height, draw, hidden)
        pose = forward(
            motion.rotations, 0 * motion.root, BODY.offsets * (np.arange(len(BODY)) > 0)[:, None], BODY.parents
        )[0]
        made = {
            **self.clip.cut(frames),
            "pose": pose.astype(np.float32),
            "turns": rotations.matrix_to_six(motion.rotations[:, :TURNS]).astype(np.float32),
            "root": (places[:, :1] - camera.place).astype(np.float32),
        }
        return made if self.labels is None else {**made, "label": self.labels[index]}
