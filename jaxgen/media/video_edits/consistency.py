"""Consistency over time of frames that an image model changed one by one, such as styles.

After Ruder, Dosovitskiy and Brox, "Artistic Style Transfer for Videos", 2016: where a pixel is found in the frame
before, by the flow of the unchanged frames, its new value is pulled to the one that was shown there.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.media.video_edits.footage import Frame, Stage, to_bytes, to_float
from jaxgen.media.video_edits.motion import flow_of, same_scene, trust_in
from jaxgen.nn.optical_flow import warped

PULL = 0.7  # how far, from 0 to 1, a value is pulled to the frame before


class Steady:
    """Frames as they are shown: each new one is pulled to the one before."""

    def __init__(self, pull: float = PULL):
        self.pull = pull
        self.before: tuple[np.ndarray, np.ndarray] | None = None

    def shown(self, given: np.ndarray, made: np.ndarray) -> np.ndarray:
        """Return what is shown f32[h w 3], for an unchanged frame f32[h w 3] in [0, 1] and the changed one."""
        if self.before is not None and given.shape == made.shape == self.before[0].shape:
            content, last = self.before
            flow = flow_of(given, content)
            trust = trust_in(given, content, flow)
            if same_scene(trust):
                made = np.asarray(_pulled(made, last, flow, trust, self.pull))
        self.before = given, made
        return made


@jax.jit
def _pulled(made: jax.Array, last: jax.Array, flow: jax.Array, trust: jax.Array, pull: float) -> jax.Array:
    return made + pull * trust * (jnp.clip(warped(last, flow, cubic=True), 0, 1) - made)


def steadily(change: Callable[[np.ndarray], np.ndarray], pull: float = PULL) -> Stage:
    """Return the stage that changes each frame u8[h w 3] by an image model, consistently over time."""

    def stage(frames: Iterator[Frame]) -> Iterator[Frame]:
        steady = Steady(pull)
        for frame in frames:
            made = steady.shown(to_float(frame.pixels), to_float(change(frame.pixels)))
            yield Frame(frame.time, to_bytes(made))

    return stage
