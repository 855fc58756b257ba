"""Action net: after Tran, Bourdev, Fergus, Torresani and Paluri 2015, "Learning Spatiotemporal Features with 3D
Convolutional Networks".

A stack of 3x3x3 convolutions that tells what happens in a clip. Its features compare sets of clips: the score
`fvd_action_moving_shapes` is the Fréchet distance of those that ship, which were trained on `moving-shapes` to tell
motion, shape and colour; `fvd_RUN` takes another run. It is far smaller than the paper's C3D: strides in place of
pooling, group norms, and a grid of 2x4x4 before the last features, to which clips of any length and size are averaged.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.capabilities import Classifier
from jaxgen.core.config import Data, Eval, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Count
from jaxgen.core.spec import ArraySpec, label_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Learner, Params, Phase, variables
from jaxgen.interop.weight_names import renamed
from jaxgen.nn.backbones.adm_unet import GroupNorm
from jaxgen.nn.conv import Dense
from jaxgen.nn.conv3d import Conv3D
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.classification import Recipe, cross_entropy
from jaxgen.tasks.video_prediction import Image

GROUPS = 8  # of the norms
SAME = 2  # the number of the convolution that keeps the size; the others halve it
GRID = (2, 4, 4)  # frames, height and width of what the last features see
HE = nn.initializers.he_normal()


@dataclass(frozen=True)
class ActionNet:
    """Hyper-parameters of an action net."""

    image: Image = (32, 32, 3)  # frames: height, width, channels
    frames: Count = 16  # of a clip in training
    classes: int = 8  # of a clip's label, which is the motion in moving-shapes
    shapes: int = 8  # of its `shape`; 0: the clips have none
    colours: int = 6  # of its `colour`; 0: the clips have none
    widths: tuple[Count, ...] = (16, 32, 48, 48)  # channels of the convolutions
    features: Count = 64  # before the logits
    recipe: Recipe = field(default_factory=lambda: Recipe("adam", 3e-3, weight_decay=0.0))

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2, model__classes=self.classes)
        at_least(0, model__shapes=self.shapes, model__colours=self.colours)
        if any(width % GROUPS for width in self.widths):
            raise InputError(f"model.widths must be multiples of {GROUPS}, not {self.widths}.")
        counts = {"label": self.classes, "shape": self.shapes, "colour": self.colours}
        counts = {name: count for name, count in counts.items() if count}
        net = ActionNetModule(self.widths, self.features, tuple(counts.items()))

        def init(key: Key, spec: Any):
            del spec
            return {"classifier": net.init(key, jnp.zeros((1, self.frames, *self.image)))["params"]}, {}

        def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
            del key
            out: Any = net.apply(variables("classifier", params, context.extra), batch["video"])
            total, seen = jnp.zeros(()), {}
            for name in counts:
                logits = out["logits" if name == "label" else f"logits_{name}"]
                total = total + cross_entropy(logits, batch[name], self.recipe.smoothing).mean()
                right = (logits.argmax(-1) == batch[name]).mean(dtype=jnp.float32)
                seen["top1" if name == "label" else f"top1_{name}"] = right
            return total, Aux(seen)

        def classify(params: Params, context: Context, batch: Batch) -> Any:
            return net.apply(variables("classifier", params, context.extra), batch["video"])

        clip = {"video": ArraySpec("video", (self.frames, *self.image))}
        return Task(
            init=init,
            example=clip | {name: label_spec(count) for name, count in counts.items()},
            learners={"classifier": Learner(("classifier",), self.recipe.build())},
            phases=(Phase("classifier", "classifier", loss),),
            capabilities=(Classifier(classify),),
        )


class ActionNetModule(nn.Module):
    """clip f32[b t h w c] in [-1, 1] -> {"features": f32[b d], "logits": f32[b k], "logits_shape": ...}."""

    widths: tuple[int, ...]
    features: int
    counts: tuple[tuple[str, int], ...]  # of the classes of each label

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Array]:
        for i, width in enumerate(self.widths):
            strides = (1, 1, 1) if i == SAME else (2, 2, 2)
            x = Conv3D(width, (3, 3, 3), strides, kernel_init=HE, name=f"conv{i + 1}")(
                x
            )  # [b t/2 h/2 w/2 c] or the same
            b, t, h, w, c = x.shape
            # Group norms over time and space alike.
            x = GroupNorm(GROUPS, name=f"norm{i + 1}")(x.reshape(b, t * h, w, c)).reshape(b, t, h, w, c)
            x = nn.relu(x)
        x = jax.image.resize(x, (len(x), *GRID, x.shape[-1]), "linear", antialias=True)
        x = nn.relu(Dense(self.features, name="fc")(x.reshape(len(x), -1)))  # [b d]
        found = {"features": to_f32(x)}
        for name, count in self.counts:
            found["logits" if name == "label" else f"logits_{name}"] = to_f32(Dense(count, name=f"fc_{name}")(x))
        return found


WEIGHT_NAMES = renamed()
TINY = ActionNet((16, 16, 3), 4, widths=(8, 8), features=8)


def preset() -> Preset:
    optim = Optim(schedule="cosine", warmup=50)
    evaluated = Eval(every=1000, batches=0, metrics=("accuracy",))
    data = Data("moving-shapes")
    full = Run(ActionNet(), "", 5_000, 32, data=data, optim=optim, log=Log(50), save=Save(1000), eval=evaluated)
    tiny = Run(TINY, data=data, steps=8, batch=8, log=Log(2), save=Save(4))
    return Preset(full, tiny, 219_030)


PRESETS = {"action-net": preset()}
