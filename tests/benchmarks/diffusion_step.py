"""Diffusion training steps beside PyTorch eager: python -m tests.benchmarks.diffusion_step [--write] [--rounds N]

The U-Net of `edm` at 32x32x1 and a DiT-S/2 on 32x32x4 (Peebles and Xie 2023, table 1), f32: noise, the denoiser's loss,
Adam and the moving average, one batch that stays in memory. The nets of the other side are those of the comparisons
tests/nn/test_unet_parity.py and tests/nn/test_dit_parity.py; turns.py says how they take turns.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tests.benchmarks import report, turns

BATCHES = {"U-Net, EDM": 32, "DiT-S/2, flow": 8}


def model_of(name: str) -> Any:
    from jaxgen import zoo
    from jaxgen.models.diffusion._nets import BackboneConfig

    if name.startswith("U-Net"):
        return zoo.load("edm").run.model
    return replace(zoo.load("sit").run.model, image=(32, 32, 4), net=BackboneConfig("dit", 384, 12, 6, patch=2))


def ours(name: str) -> Callable[[], Any]:
    """Return what takes one step as jaxgen's loop does, and waits for it."""
    from jaxgen.core.config import Run

    return turns.step_of(Run(model=model_of(name), batch=BATCHES[name]))


def theirs(name: str) -> Callable[[], Any]:
    """Return what takes one step of the same in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    from tests.benchmarks.torch_gans import prepare

    prepare()
    model, batch = model_of(name), BATCHES[name]
    height, width, channels = model.image
    x0 = torch.rand(batch, channels, height, width) * 2 - 1
    if name.startswith("U-Net"):
        import jax

        from tests.nn.test_unet_parity import TorchUNet, named

        arrays = named(model.init(jax.random.key(0))[0]["denoiser"])
        weights = {k: torch.tensor(v, requires_grad=True) for k, v in arrays.items()}
        net, parameters = TorchUNet(model.module, weights), list(weights.values())
        loss = partial(edm_loss, model, net, x0)
    else:
        from tests.nn.test_dit_parity import TorchDiT

        net = TorchDiT(model.module, channels)
        parameters = list(net.parameters())
        loss = partial(flow_loss, model, net, x0, torch.randint(model.classes, (batch,)))

    adam = torch.optim.Adam(parameters, lr=model.learning_rate)
    average = [p.detach().clone() for p in parameters]

    def one():
        adam.zero_grad()
        loss().backward()
        adam.step()
        with torch.no_grad():
            for a, p in zip(average, parameters, strict=True):
                a.lerp_(p, 1 - model.ema)

    return one


def edm_loss(model: Any, net: Callable[..., Any], x0: Any) -> Any:
    """Return the loss of an EDM whose net is (c_in x, c_noise) -> F, in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    sigma = (model.p_mean + model.p_std * torch.randn(len(x0))).exp()
    s, total = sigma[:, None, None, None], (sigma**2 + model.sigma_data**2).sqrt()[:, None, None, None]
    x = x0 + s * torch.randn_like(x0)
    out = net(x / total, sigma.log() / 4)
    guess = (model.sigma_data / total) ** 2 * x + s * model.sigma_data / total * out
    return ((total / (s * model.sigma_data)) ** 2 * (guess - x0).square()).mean()


def flow_loss(model: Any, net: Callable[..., Any], x0: Any, label: Any) -> Any:
    """Return the loss of a flow whose net is (x, 1000 t, label, None) -> v, in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    t, eps = torch.rand(len(x0)), torch.randn_like(x0)
    part = t[:, None, None, None]
    hidden = torch.where(torch.rand(len(x0)) < model.drop, model.classes, label)
    return (net((1 - part) * x0 + part * eps, 1000 * t, hidden, None) - (eps - x0)).square().mean()


def sides(name: str) -> dict[str, Callable[[], Callable[[], Any]]]:
    return {f"jaxgen, {name}": partial(ours, name), f"PyTorch, {name}": partial(theirs, name)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        turns.work({k: v for name in BATCHES for k, v in sides(name).items()}, sys.argv[2], repeats=3)
    else:
        wanted = report.arguments(__doc__, rounds=5)
        rows = []
        for name, batch in BATCHES.items():
            rows += turns.measure("tests.benchmarks.diffusion_step", sides(name), wanted.rounds, batch, "step")
        report.publish("diffusion-step", rows, wanted.write)
