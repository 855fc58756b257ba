"""FFDNet: Zhang, Zuo and Zhang 2018, "FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising".

One net for all noise levels: its input is the image and a map of the level. A stack of 3x3 convolutions works at half
the resolution, where each 2x2 block of pixels is in the channels, and predicts the clean image, not the noise. Kernels
are initialised orthogonal. As in the authors' PyTorch code there is no batch norm (the paper trains with it and then
folds it into the convolutions), and no step that keeps the kernels orthogonal. A cosine schedule replaces the paper's
rates of 0.001, 0.0001 and 0.000001.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.nn.conv import Conv
from jaxgen.nn.shuffle import depth_to_space, space_to_depth
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class FFDNet:
    """Hyper-parameters of an FFDNet."""

    image: Image = (70, 70, 1)  # training patches: height, width, channels
    channels: int = 1  # of the net; one of 1 channel restores each channel of colour
    depth: int = 15
    width: int = 64
    degradation: Degradation = Degradation(noise=(0, 75))
    recipe: Recipe = Recipe(loss="l2", learning_rate=1e-3)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2, model__depth=self.depth)
        at_least(1, model__width=self.width)
        net = FFDNetModule(self.depth, self.width, self.channels)
        return RestorationTask(
            net,
            self.image,
            self.recipe,
            self.degradation,
            channels=self.channels,
            conditioning=("sigma",),
            multiple=2,
            colour="each",
        ).task()


class FFDNetModule(nn.Module):
    """x f32[b h w channels] with noise of sigma f32[b], of 255 -> the denoised image; the sides of x are even."""

    depth: int
    width: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, sigma: Array, train: bool = False) -> Array:
        del train
        y = space_to_depth(x, 2)  # [b h/2 w/2 4*channels]
        level = jnp.broadcast_to((sigma / 255).astype(x.dtype)[:, None, None, None], (*y.shape[:3], 1))
        y = jnp.concatenate([y, level], -1)  # [b h/2 w/2 4*channels+1]
        for i in range(self.depth - 1):
            y = nn.relu(conv(self.width, i)(y))  # [b h/2 w/2 width]
        return depth_to_space(conv(4 * self.channels, self.depth - 1)(y), 2)


def conv(features: int, i: int) -> Conv:
    """Return convolution i; names are positions in the authors' list of layers, including activations."""
    return Conv(features, (3, 3), kernel_init=nn.initializers.orthogonal(2**0.5), name=f"model_{2 * i}")


def preset(model: FFDNet, parameters: int) -> Preset:
    small = replace(model, image=(16, 16, model.channels), depth=4, width=8)
    return Preset(row(model, 400_000, 128, optim=Optim(schedule="cosine")), tiny(small), parameters)


PRESETS = {  # epochs of 128 x 8,000 patches; the paper does not give their number
    "ffdnet": preset(FFDNet(), 485_316),
    "ffdnet-colour": preset(FFDNet(image=(50, 50, 3), channels=3, depth=12, width=96), 852_108),
}
