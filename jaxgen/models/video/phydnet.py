"""PhyDNet: Le Guen and Thome 2020, "Disentangling Physical Dynamics from Unknown Factors for Unsupervised Video
Prediction".

Two recurrent branches: a cell that follows a partial differential equation and is corrected by the frame (PhyCell,
equations 6 and 7), and a ConvLSTM for all else. Each convolution of the PhyCell is drawn to one partial derivative by
a penalty on the moments of its kernel (equation 10, K2M). Sizes, initial values and names are those of OpenSTL (Tan et
al. 2023). Teacher forcing decides for a whole clip, and becomes rarer over 208,333 steps, theirs over 333 epochs. The
loss is the mean over frames, where theirs is the sum; the penalty has the same share in it.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.interop.weight_names import renamed
from jaxgen.models.video._recurrent import State, recurrent_task
from jaxgen.nn.backbones.adm_unet import UNIFORM, GroupNorm
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.tasks.video_prediction import Image, row

SIDE = 7  # of the PhyCell's kernels; SIDE^2 derivatives
WIDTH, GROUPS = 32, 16  # channels of the image encoder; groups of its norms


@dataclass(frozen=True)
class PhyDNet:
    """Hyper-parameters of a PhyDNet."""

    image: Image = (64, 64, 1)  # frames: height, width, channels
    past: Count = 10  # frames that are given
    future: Count = 10  # frames that are predicted
    widths: tuple[Count, ...] = (128, 128, 64)  # channels of the ConvLSTM's layers, 64 in the last one
    teacher_steps: Count = 208_333  # training steps until the future's true frames are no inputs
    learning_rate: float = 1e-3
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        if self.image[0] % 4 or self.image[1] % 4:
            raise InputError(f"model.image: both sides must be multiples of 4, not {self.image[:2]}.")
        if self.widths[-1:] != (2 * WIDTH,):
            raise InputError(f"model.widths must end in {2 * WIDTH}: both branches are added.")
        count = self.past + self.future - 1

        def sampling(step: Array) -> Array:
            forced = jnp.maximum(1 - step / self.teacher_steps, 0)
            return jnp.where(jnp.arange(count) < self.past, 1.0, forced)

        def penalty(nets) -> Array:
            return moment_penalty(nets["params"]["cell"]["phycell_cell_list_0"]["F_conv1"]["kernel"]) / count

        return recurrent_task(self, Cell(self.widths), sampling, once=True, penalty=penalty)


def moment_penalty(kernels: Array) -> Array:
    """Return the squared distance of kernels' moments from those of the SIDE^2 partial derivatives, f32[].

    kernels f32[SIDE SIDE c SIDE^2]. The moments of a kernel k are M k M^T, M[i, u] = (u - SIDE // 2)^i / i!; kernel
    number SIDE i + j has moment 1 at (i, j) and no other. The sum over c of means. Equation 10.
    """
    u = np.arange(SIDE) - SIDE // 2
    powers = np.stack([u.astype(float) ** i / math.factorial(i) for i in range(SIDE)])  # [SIDE SIDE]
    m = jnp.asarray(powers, jnp.float32)
    moments = jnp.einsum("iu,jv,uvco->cijo", m, m, kernels, precision="highest")
    wanted = jnp.eye(SIDE**2).reshape(SIDE, SIDE, SIDE**2)
    return jnp.square(moments - wanted[None]).mean((1, 2, 3)).sum()


class Cell(nn.Module):
    """state, frame f32[b h w channels] -> the next state, the next frame. Figure 2."""

    widths: tuple[int, ...]

    def start(self, shape: tuple[int, ...], dtype) -> State:
        batch, height, width = shape
        zeros = lambda c: jnp.zeros((batch, height // 4, width // 4, c), dtype)  # noqa: E731
        own = {f"{name}{i}": zeros(c) for name in "hc" for i, c in enumerate(self.widths)}
        return own | {"p": zeros(2 * WIDTH)}

    @nn.compact
    def __call__(self, state: State, frame: Array) -> tuple[State, Array]:
        y = down(frame, WIDTH, 2, "encoder_E_c1")  # [b h/2 w/2 32]
        y = down(down(y, WIDTH, 1, "encoder_E_c2"), 2 * WIDTH, 2, "encoder_E_c3")  # [b h/4 w/4 64]
        c = y.shape[-1]
        physical, x = (down(down(y, c, 1, f"encoder_{n}_c1"), c, 1, f"encoder_{n}_c2") for n in ("Ep", "Er"))
        after: dict[str, Array] = {"p": PhyCell(name="phycell_cell_list_0")(physical, state["p"])}
        for i, width in enumerate(self.widths):
            gates = Conv(4 * width, (3, 3), kernel_init=UNIFORM, name=f"convcell_cell_list_{i}_conv")
            into, forget, out, value = jnp.split(gates(jnp.concatenate([x, state[f"h{i}"]], -1)), 4, -1)
            memory = jax.nn.sigmoid(forget) * state[f"c{i}"] + jax.nn.sigmoid(into) * jnp.tanh(value)
            x = jax.nn.sigmoid(out) * jnp.tanh(memory)
            after |= {f"h{i}": x, f"c{i}": memory}
        decoded = [
            up(up(z, c, 1, f"decoder_{n}_upc1"), c, 1, f"decoder_{n}_upc2") for n, z in (("Dp", after["p"]), ("Dr", x))
        ]
        y = decoded[0] + decoded[1]
        y = up(up(y, WIDTH, 2, "decoder_D_upc1"), WIDTH, 1, "decoder_D_upc2")  # [b h/2 w/2 32]
        return after, jax.nn.sigmoid(transposed(y, frame.shape[-1], 2, "decoder_D_upc3"))  # [b h w channels]


class PhyCell(nn.Module):
    """x and h f32[b h w c] -> the next h: a step of the equation, and its correction by x. Equations 6 to 9."""

    @nn.compact
    def __call__(self, x: Array, h: Array) -> Array:
        c = x.shape[-1]
        both = jnp.concatenate([x, h], -1)  # [b h w 2c]
        gain = jax.nn.sigmoid(Conv(c, (3, 3), kernel_init=UNIFORM, name="convgate")(both))
        derivatives = Conv(SIDE**2, (SIDE, SIDE), kernel_init=UNIFORM, name="F_conv1")(h)  # [b h w 49]
        y = GroupNorm(SIDE, name="F_bn1")(derivatives)
        predicted = h + Conv(c, (1, 1), kernel_init=UNIFORM, name="F_conv2")(y)
        return predicted + gain * (x - predicted)


def down(x: Array, features: int, stride: int, name: str) -> Array:
    """Return a convolution, its norm and leaky ReLU, f32[b h w c] -> f32[b h/stride w/stride features]."""
    pads = ((1, 1), (1, 1))
    y = Conv(features, (3, 3), (stride, stride), pads, kernel_init=UNIFORM, name=f"{name}_main_0")(x)
    return nn.leaky_relu(GroupNorm(GROUPS, name=f"{name}_main_1")(y), 0.2)


def up(x: Array, features: int, stride: int, name: str) -> Array:
    """Return a transposed convolution, its norm and leaky ReLU, f32[b h w c] -> f32[b h*stride w*stride features]."""
    y = transposed(x, features, stride, f"{name}_main_0")
    return nn.leaky_relu(GroupNorm(GROUPS, name=f"{name}_main_1")(y), 0.2)


def transposed(x: Array, features: int, stride: int, name: str) -> Array:
    pads = ((1, 2 - stride), (1, 2 - stride))
    return ConvTranspose(features, (3, 3), (stride, stride), pads, kernel_init=UNIFORM, name=name)(x)


# cell/encoder_E_c1_main_0 is theirs encoder.encoder_E.c1.main.0, cell/phycell_cell_list_0/F_conv1 is
# encoder.phycell.cell_list.0.F.conv1.
WEIGHT_NAMES = renamed(
    (r"^cell\.", "encoder."),
    (r"((?:en|de)coder_[A-Z]\w?)_(up)?c(\d)_main\.", r"\1.\2c\3.main."),
    (r"decoder_D_upc3", "decoder_D.upc3"),
    (r"cell_cell_list\.(\d+)_conv", r"cell.cell_list.\1.conv"),
    (r"cell_cell_list\.(\d+)", r"cell.cell_list.\1"),
    (r"F_", "F."),
)
TINY = PhyDNet(image=(16, 16, 1), past=3, future=2, widths=(8, 64), teacher_steps=6)
PRESETS = {"phydnet": row(PhyDNet(), TINY, 3_091_732)}
