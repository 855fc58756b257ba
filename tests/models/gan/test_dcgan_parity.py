"""DCGAN against the same networks in PyTorch: outputs, losses, and two whole training steps.

A 5x5 kernel with stride 2 needs three pixels of padding in total. Ours puts one of them first ("SAME", as TensorFlow).
PyTorch's usual padding=2, output_padding=1 puts two first: this is the mirrored net. So for this kernel every kernel
and every image is rotated by 180 degrees for PyTorch.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from jaxgen.core import rng
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import TrainState, variables
from jaxgen.interop.weight_names import rule_of, to_theirs
from jaxgen.interop.write import write_torch
from jaxgen.models.gan.dcgan import DCGAN, DCGANDiscriminator, DCGANGenerator
from jaxgen.tasks.adversarial_config import AdversarialConfig

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")

SIZE, CHANNELS, WIDTH, LATENT, BATCH, RATE = 32, 3, 8, 16, 8, 2e-4
STAGES = (8, 16, 32)  # channels, starting next to the image
both = pytest.mark.parametrize("kernel", [4, 5])


class Theirs:
    """The two networks of the PyTorch tutorial with one stage less, and the parameters of a state of ours."""

    def __init__(self, kernel: int, state: TrainState):
        nn, pad, out = torch.nn, (1 if kernel == 4 else 2), kernel - 4
        self.kernel = kernel
        a, b, c = STAGES
        up: dict[str, Any] = {"kernel_size": kernel, "stride": 2, "padding": pad, "output_padding": out, "bias": False}
        down: dict[str, Any] = {"kernel_size": kernel, "stride": 2, "padding": pad, "bias": False}
        self.generator = nn.Sequential(
            *(nn.ConvTranspose2d(LATENT, c, 4, 1, 0, bias=False), nn.BatchNorm2d(c), nn.ReLU()),
            *(nn.ConvTranspose2d(c, b, **up), nn.BatchNorm2d(b), nn.ReLU()),
            *(nn.ConvTranspose2d(b, a, **up), nn.BatchNorm2d(a), nn.ReLU()),
            *(nn.ConvTranspose2d(a, CHANNELS, **up), nn.Tanh()),
        )
        self.discriminator = nn.Sequential(
            *(nn.Conv2d(CHANNELS, a, **down), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(a, b, **down), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(b, c, **down), nn.BatchNorm2d(c), nn.LeakyReLU(0.2)),
            nn.Conv2d(c, 1, 4, 1, 0, bias=False),
        )
        self.nets = {"generator": self.generator, "discriminator": self.discriminator}
        for net, module in self.nets.items():
            for mine, (name, value) in zip(module.parameters(), self.parameters(net, state), strict=True):
                assert mine.shape == value.shape, name
                mine.data = torch.tensor(value)

    def parameters(self, net: str, state: TrainState) -> list[tuple[str, np.ndarray]]:
        """Return our parameters of a net in PyTorch's layout and order."""
        p = jax.tree.map(np.asarray, state.params[net])
        latent_or_c = p["Dense_0"]["kernel"].shape
        if net == "generator":
            dense = p["Dense_0"]["kernel"].reshape(latent_or_c[0], 4, 4, -1).transpose(0, 3, 1, 2)  # [in out 4 4]
            convs = [p[f"ConvTranspose_{i}"]["kernel"].transpose(2, 3, 0, 1) for i in range(3)]  # [in out k k]
            order = [("dense", dense), 0, ("conv 0", convs[0]), 1, ("conv 1", convs[1]), 2, ("conv 2", convs[2])]
        else:
            dense = p["Dense_0"]["kernel"].reshape(4, 4, -1, 1).transpose(3, 2, 0, 1)  # [out in 4 4]
            convs = [p[f"Conv_{i}"]["kernel"].transpose(3, 2, 0, 1) for i in range(3)]  # [out in k k]
            order = [("conv 0", convs[0]), ("conv 1", convs[1]), 0, ("conv 2", convs[2]), 1, ("dense", dense)]
        named = []
        for entry in order:
            if isinstance(entry, int):
                norm = p[f"BatchNorm_{entry}"]
                named += [(f"{net} scale {entry}", norm["scale"]), (f"{net} bias {entry}", norm["bias"])]
            else:
                named.append((f"{net} {entry[0]}", self.turn(entry[1])))
        return named

    def turn(self, x: np.ndarray) -> np.ndarray:
        """Return [... h w] rotated by 180 degrees for the kernel for which the two paddings differ."""
        return np.ascontiguousarray(x[..., ::-1, ::-1] if self.kernel == 5 else x)

    def image(self, x: Any):
        """Return our images [b h w c] as PyTorch's [b c h w]."""
        return torch.tensor(self.turn(np.asarray(x).transpose(0, 3, 1, 2)))

    def our_image(self, x: Any) -> np.ndarray:
        """Return PyTorch's images [b c h w] as ours [b h w c]."""
        return self.turn(x.detach().numpy()).transpose(0, 2, 3, 1)

    def norms(self, net: str) -> list[Any]:
        return [m for m in self.nets[net] if isinstance(m, torch.nn.BatchNorm2d)]

    def discriminate(self, images: Any, count: bool) -> Any:
        """Return the discriminator's logits; update its running statistics only if `count`."""
        for norm in self.norms("discriminator"):
            norm.momentum = 0.1 if count else 0.0
        return self.discriminator(images)[:, 0, 0, 0]


def ours(kernel: Any):
    task = DCGAN((SIZE, SIZE, CHANNELS), LATENT, WIDTH, kernel=kernel, game=AdversarialConfig(learning_rate=RATE)).task(
        2
    )
    batches = [
        {"image": np.random.default_rng(i).uniform(-1, 1, (BATCH, SIZE, SIZE, CHANNELS)).astype(np.float32)}
        for i in range(2)
    ]
    return task, jax.jit(lambda: init_state(task, jax.random.key(0), batches[0]))(), batches


def noise_of(state: TrainState) -> np.ndarray:
    key = rng.fold(jax.random.fold_in(state.key, state.step), "z")
    return np.asarray(rng.uniform(jax.random.split(key, BATCH), (LATENT,)))


def bce(logits: Any, label: float) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


@both
def test_outputs(kernel):
    _, state, (batch, _) = ours(kernel)
    # Larger weights than the initial ones, with which all images are nearly grey.
    state = state.replace(params=jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, state.params))
    theirs, z = Theirs(kernel, state), noise_of(state)
    generator, discriminator = DCGANGenerator((4, 4), STAGES, CHANNELS, kernel), DCGANDiscriminator(STAGES, kernel)
    for train in (False, True):
        for net in theirs.nets.values():
            net.train(train)
        run = jax.jit(partial(pass_through, generator, discriminator, train=train))
        images, logits = run(state, z, batch["image"])
        expected = theirs.our_image(theirs.generator(torch.tensor(z)[:, :, None, None]))
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(images, expected, atol=1e-5)
        expected = theirs.discriminate(theirs.image(batch["image"]), count=False).detach().numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_the_tutorials_networks_load_our_exported_files(tmp_path):
    _, state, (batch, _) = ours(4)
    state = state.replace(params=jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, state.params))
    theirs, z = Theirs(4, state), noise_of(state)
    model = DCGAN((SIZE, SIZE, CHANNELS), LATENT, WIDTH, 4)
    for net, module in theirs.nets.items():
        with torch.no_grad():
            for value in module.state_dict().values():
                value.zero_()
        tensors = to_theirs(rule_of("dcgan"), model, net, variables(net, state.params, state.extra))
        write_torch(tmp_path / net, tensors)
        loaded = torch.load(tmp_path / net, weights_only=True)
        module.load_state_dict({name.removeprefix("main."): value for name, value in loaded.items()})
        module.eval()
    generator, discriminator = DCGANGenerator((4, 4), STAGES, CHANNELS, 4), DCGANDiscriminator(STAGES, 4)
    images, logits = pass_through(generator, discriminator, state, z, batch["image"], train=False)
    expected = theirs.our_image(theirs.generator(torch.tensor(z)[:, :, None, None]))
    np.testing.assert_allclose(images, expected, atol=1e-5)
    expected = theirs.discriminate(theirs.image(batch["image"]), count=False).detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def pass_through(generator, discriminator, state, z, images, train):
    v = {net: {"params": state.params[net], **state.extra[net]} for net in state.params}
    fake, _ = generator.apply(v["generator"], z, train=train, mutable=["batch_stats"])
    logits, _ = discriminator.apply(v["discriminator"], images, train=train, mutable=["batch_stats"])
    return fake, logits


@both
def test_two_training_steps(kernel):
    task, state, batches = ours(kernel)
    first, theirs = state, Theirs(kernel, state)
    adams = {n: torch.optim.Adam(net.parameters(), lr=RATE, betas=(0.5, 0.999)) for n, net in theirs.nets.items()}
    step = jax.jit(make_step(task))
    for batch in batches:
        fake = theirs.generator(torch.tensor(noise_of(state))[:, :, None, None])
        adams["discriminator"].zero_grad()
        real_logits = theirs.discriminate(theirs.image(batch["image"]), count=False)
        d_loss = bce(real_logits, 1) + bce(theirs.discriminate(fake.detach(), count=True), 0)
        d_loss.backward()
        adams["discriminator"].step()
        adams["generator"].zero_grad()
        g_loss = bce(theirs.discriminate(fake, count=False), 1)
        g_loss.backward()
        adams["generator"].step()
        state, metrics = step(state, batch, {})
        assert float(metrics["discriminator/loss"]) == pytest.approx(d_loss.item(), rel=1e-4)
        assert float(metrics["generator/loss"]) == pytest.approx(g_loss.item(), rel=1e-4)
    compare_parameters(theirs, first, state)
    compare_statistics(theirs, state)


def compare_parameters(theirs: Theirs, first: TrainState, state: TrainState):
    """Assert that 999 in 1,000 numbers agree to a hundredth of one update.

    Adam's first steps are nearly RATE times the sign of the gradient. If a gradient is smaller than the rounding errors
    of the two sums, the signs can differ. But no number may differ by more than two updates in opposite directions.
    """
    for net, module in theirs.nets.items():
        lists = theirs.parameters(net, first), theirs.parameters(net, state), module.parameters()
        for (_, before), (name, value), mine in zip(*lists, strict=True):
            assert np.median(np.abs(value - before)) > RATE, f"{name} has changed by less than two updates"
            off = np.abs(value - mine.detach().numpy())
            assert np.quantile(off, 0.999) < 0.01 * RATE, name
            assert off.max() < 4 * RATE, name


def compare_statistics(theirs: Theirs, state: TrainState):
    for net in theirs.nets:
        size = 4 if net == "generator" else SIZE // 4
        for i, norm in enumerate(theirs.norms(net)):
            stats = state.extra[net]["batch_stats"][f"BatchNorm_{i}"]
            n = BATCH * size**2  # numbers of a channel
            size = size * 2 if net == "generator" else size // 2
            np.testing.assert_allclose(stats["mean"], norm.running_mean.numpy(), rtol=1e-4, atol=1e-6)
            # PyTorch keeps the unbiased variance, n / (n - 1) times ours; 0.81 of the initial 1 is left.
            var = 0.81 + (norm.running_var.numpy() - 0.81) * (n - 1) / n
            np.testing.assert_allclose(stats["var"], var, rtol=1e-4)
