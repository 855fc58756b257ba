"""RIFE: Huang, Zhang, Heng, Shi and Zhou 2022, "Real-Time Intermediate Flow Estimation for Video Frame Interpolation".

The frame in the middle of two frames. Three blocks estimate, from coarse to fine, the flows from it to both frames and
a mask that mixes the warped frames; each one corrects the result of the block before. A U-Net adds details, from
features of both frames that are warped alike.

In training, a teacher block also sees the true frame. Its flows teach the blocks where it is better (privileged
distillation, section 3.3). The structure is that of the authors' code, which has 10.07 million parameters without the
teacher; the 9.8 million that the paper states are those without the net of the warped features, too. The learning rate
falls to 0, not to a hundredth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Learner, Params, Phase
from jaxgen.losses.restoration import laplacian
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.backbones.adm_unet import UNIFORM
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.precision import to_f32
from jaxgen.nn.prelu import PReLU
from jaxgen.nn.resample import resize
from jaxgen.nn.warping import warp
from jaxgen.tasks.video_prediction import RATE, from_unit, to_unit

Image = tuple[int, int, int]
SCALES = (4, 2, 1)  # by which the blocks' inputs are made smaller
MULTIPLE = 32
BETTER = 0.01  # by so much the teacher's frame must be better where it teaches


@dataclass(frozen=True)
class RIFE:
    """Hyper-parameters of a RIFE."""

    image: Image = (224, 224, 3)  # frames: height, width, channels
    widths: tuple[Count, Count, Count] = (240, 150, 90)  # channels of the blocks
    teacher: Count = 90  # channels of the teacher
    refiner: Count = 16  # channels at the refiner's first size
    distillation: float = 0.01  # weight of the distillation
    learning_rate: float = 3e-4
    weight_decay: float = 1e-3

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        height, width, channels = self.image
        if channels != 3 or height % MULTIPLE or width % MULTIPLE:
            sizes = " ".join(map(str, self.image))
            raise InputError(f"model.image must have 3 channels and sides that are multiples of 32, not {sizes}.")
        net = RIFENet(self.widths, self.teacher, self.refiner)
        levels = min(5, min(height, width).bit_length() - 2)  # of the loss: the smallest has 4 pixels

        def init(key: Key, _: Any):
            x = jnp.zeros((1, MULTIPLE, MULTIPLE, 3))
            return {"interpolator": net.init(key, x, x, x)["params"]}, {}

        def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
            first, true, last = (to_unit(batch[name][:, 0]) for name in ("first", "middle", "last"))
            if context.train:  # time runs backward in half of the examples
                each = jax.vmap(jax.random.bernoulli)(jax.random.split(key, len(true)))
                turned = jnp.broadcast_to(each[:, None, None, None], true.shape)
                first, last = jnp.where(turned, last, first), jnp.where(turned, first, last)
            answer: Any = net.apply({"params": params["interpolator"]}, first, last, true)
            made, student, teacher = answer
            student_loss = laplacian(made, true, levels).mean()
            teacher_loss = laplacian(teacher.frame, true, levels).mean()
            taught = distilled(student, teacher, true)
            total = student_loss + teacher_loss + self.distillation * taught
            seen = {"student": student_loss, "teacher": teacher_loss, "distillation": taught}
            return total, Aux(seen | {"psnr": psnr(from_unit(made), from_unit(true)).mean()})

        def apply(params: Params, context: Context, given: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
            del context, keys, scale
            first, last = (to_unit(given[name][:, 0]) for name in ("first", "last"))
            made: Any = net.apply({"params": params["interpolator"]}, first, last)
            return {"middle": from_unit(made[0])[:, None]}

        one = ArraySpec("video", (1, *self.image), rate=RATE)
        any_size = ArraySpec("video", (1, "h", "w", 3), multiple=MULTIPLE, rate=RATE)
        inputs = {"first": any_size, "last": any_size}
        optimizer = optax.adamw(self.learning_rate, weight_decay=self.weight_decay)
        return Task(
            init=init,
            example={"first": one, "middle": one, "last": one},
            learners={"interpolator": Learner(("interpolator",), optimizer)},
            phases=(Phase("interpolator", "interpolator", loss),),
            capabilities=(Transform(apply, inputs, {"middle": any_size}, subject="first", whole=True),),
        )


class Estimate(NamedTuple):
    """What a block knows of the frame in the middle.

    flow:  to the first and to the last frame, f32[b h w 4]
    mask:  logits of the share of the first one, f32[b h w 1]
    first, last: the warped frames f32[b h w 3]
    """

    flow: Array
    mask: Array
    first: Array
    last: Array

    @property
    def frame(self) -> Array:
        """The mixed frame f32[b h w 3]. Equation 3."""
        share = jnp.broadcast_to(nn.sigmoid(self.mask), self.first.shape)
        return share * self.first + (1 - share) * self.last


def distilled(student: Sequence[Estimate], teacher: Estimate, true: Array) -> Array:
    """Return the sum over the blocks of the distance of their flows to the teacher's, where it is better, f32[].

    Equation 5, with the mask of the authors' code: the teacher's frame must be better by 0.01 of the range.
    """
    flow, total = jax.lax.stop_gradient(teacher.flow), jnp.zeros(())
    error = lambda one: jnp.abs(one.frame - true).mean(-1)  # noqa: E731
    for one in student:
        better = jax.lax.stop_gradient((error(one) > error(teacher) + BETTER).astype(flow.dtype))  # [b h w]
        distance = jnp.sqrt(jnp.square(flow - one.flow).mean(-1) + 1e-12)
        total = total + (better * distance).mean()
    return total


class RIFENet(nn.Module):
    """first and last f32[b h w 3] in [0, 1] -> the middle frame, each block's estimate, and the teacher's or None.

    true: the middle frame, for the teacher
    """

    widths: tuple[int, ...]
    teacher: int
    refiner: int

    @nn.compact
    def __call__(self, first: Array, last: Array, true: Array | None = None):
        found: list[Estimate] = []
        for i, (width, scale) in enumerate(zip(self.widths, SCALES, strict=True)):
            found.append(self.corrected(Block(width, scale, name=f"block{i}"), first, last, found[-1:], ()))
        one = found[-1]
        taught = None
        if true is not None:
            taught = self.corrected(Block(self.teacher, 1, name="block_tea"), first, last, [one], (true,))
        context = Context4(self.refiner, name="contextnet")
        near, far = context(first, one.flow[..., :2]), context(last, one.flow[..., 2:])
        seen = [first, last, one.first, one.last, one.mask, one.flow]
        details = Details(self.refiner, name="unet")(jnp.concatenate(seen, -1), near, far)
        return jnp.clip(one.frame + 2 * details - 1, 0, 1), found, taught

    @nn.nowrap
    def corrected(
        self, block: nn.Module, first: Array, last: Array, before: Sequence[Estimate], more: tuple[Array, ...]
    ) -> Estimate:
        """Return a block's estimate, which corrects the one before where there is one."""
        if before:
            (one,) = before
            seen = jnp.concatenate([first, last, one.first, one.last, one.mask, *more], -1)
            made: Any = block(seen, one.flow)
            flow, mask = one.flow + made[..., :4], one.mask + made[..., 4:]
        else:
            made = block(jnp.concatenate([first, last], -1), None)
            flow, mask = made[..., :4], made[..., 4:]
        return Estimate(flow, mask, warp(first, flow[..., :2], "border"), warp(last, flow[..., 2:], "border"))


class Block(nn.Module):
    """x f32[b h w c], flow f32[b h w 4] or None -> the changes of flow and mask, f32[b h w 5]. Section 3.2."""

    width: int
    scale: int

    @nn.compact
    def __call__(self, x: Array, flow: Array | None) -> Array:
        size, factor = x.shape[1:3], self.scale
        small = size[0] // factor, size[1] // factor
        x = resized(x, small)
        if flow is not None:
            x = jnp.concatenate([x, resized(flow, small) / factor], -1)
        x = active(conv(self.width // 2, "conv0_0_0", 2)(x), "conv0_0_1")
        x = y = active(conv(self.width, "conv0_1_0", 2)(x), "conv0_1_1")  # [b h/(4 factor) w/(4 factor) width]
        for i in range(8):
            y = active(conv(self.width, f"convblock_{i}_0")(y), f"convblock_{i}_1")
        made = to_f32(deconv(5, "lastconv")(x + y))  # [b h/(2 factor) w/(2 factor) 5]
        return resized(made, size) * jnp.asarray([2.0 * factor] * 4 + [1.0]).reshape(1, 1, 1, 5)


class Context4(nn.Module):
    """x f32[b h w 3], flow f32[b h w 2] -> the warped features at four sizes, f32[b h/2 w/2 c] and so on."""

    width: int

    @nn.compact
    def __call__(self, x: Array, flow: Array) -> list[Array]:
        found = []
        for i in range(4):
            x = Halving(self.width * 2**i, name=f"conv{i + 1}")(x)
            flow = resized(flow, x.shape[1:3]) / 2
            found.append(warp(x, flow, "border"))
        return found


class Details(nn.Module):
    """The refining U-Net: x f32[b h w 17] and both frames' features -> f32[b h w 3] in [0, 1]."""

    width: int

    @nn.compact
    def __call__(self, x: Array, near: list[Array], far: list[Array]) -> Array:
        c, kept = self.width, []
        for i in range(4):
            x = Halving(2 ** (i + 1) * c, name=f"down{i}")(x)
            kept.append(x)
            x = jnp.concatenate([x, near[i], far[i]], -1)
        for i in range(4):
            x = active(deconv(2 ** (3 - i) * c, f"up{i}_0")(x), f"up{i}_1")
            x = jnp.concatenate([x, kept[2 - i]], -1) if i < 3 else x
        return nn.sigmoid(to_f32(conv(3, "conv")(x)))


class Halving(nn.Module):
    """Two convolutions, the first of which halves the sides, x f32[b h w c] -> f32[b h/2 w/2 width]."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = active(conv(self.width, "conv1_0", 2)(x), "conv1_1")
        return active(conv(self.width, "conv2_0")(x), "conv2_1")


def conv(features: int, name: str, stride: int = 1) -> Conv:
    return Conv(features, (3, 3), (stride, stride), ((1, 1), (1, 1)), kernel_init=UNIFORM, name=name)


def deconv(features: int, name: str) -> ConvTranspose:
    """Return a transposed convolution that doubles the sides."""
    return ConvTranspose(features, (4, 4), (2, 2), ((1, 1), (1, 1)), kernel_init=UNIFORM, name=name)


def active(x: Array, name: str) -> Array:
    return PReLU(each=True, name=name)(x)


def resized(x: Array, size: tuple[int, ...]) -> Array:
    """Return x resampled linearly without antialiasing."""
    height, width = size
    return x if x.shape[1:3] == (height, width) else resize(x, (height, width), "bilinear", False, "reflect")


TINY = RIFE(image=(32, 32, 3), widths=(8, 8, 4), teacher=4, refiner=2, learning_rate=1e-3)
PRESETS = {
    "rife": Preset(
        Run(
            RIFE(),
            data=Data("moving-shapes", crop="patch", flip=True, turn=True),
            steps=250_000,
            batch=64,
            optim=Optim(schedule="cosine", warmup=2000),
            log=Log(100, 5000, 8),
            save=Save(5000),
        ),
        Run(TINY, data=Data("moving-shapes"), steps=8, batch=8, log=Log(2, 4, 4), save=Save(4)),
        10_708_215,
    )
}
