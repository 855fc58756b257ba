"""Flow matching: Lipman et al., "Flow Matching for Generative Modeling"; Liu et al., "Flow Straight and Fast", 2023.

x_t = (1 - t) x0 + t eps (t = 1 is noise, as in Esser et al. 2024). The net predicts the velocity u = eps - x0; the loss
is its squared error. Training times are uniform or logit-normal (Esser et al. 2024, section 3.1).

`coupling="ot"` pairs the noise of a batch with its images by optimal transport, for straighter paths (Tong et al. 2024,
algorithm 3; Pooladian et al. 2023). The plan is Sinkhorn's, and the noise of each image is drawn from its row of the
plan. (In their code pairs are drawn from a whole exact plan, where an image can occur twice.) With classes, noise is
exchanged within a class only, so that the noise of each class is normal. `coupling="reflow"` pairs noise with the
samples of a teacher flow (Liu et al. 2023, section 2.2): the paths no longer cross, so that few steps suffice. The
teacher's ODE is solved in every training step.

`path` selects another stochastic interpolant, alpha x0 + sigma eps with velocity alpha' x0 + sigma' eps (Albergo et al.
2023; Ma et al. 2024, "SiT"): "cosine" has alpha = cos(pi t / 2), sigma = sin(pi t / 2). With a DiT this is SiT, with
two differences: the net's time input is 0 to 1000 (in the authors' code 0 to 1), and the net does not have the second
half of output channels, which the authors' code ignores.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Decay, Range
from jaxgen.core.spec import kind_of
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params
from jaxgen.diffusion import schedules
from jaxgen.diffusion.grids import grid
from jaxgen.diffusion.samplers import heun
from jaxgen.diffusion.schedules import expand_like
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import SMALL, row
from jaxgen.tasks.denoising import (
    Denoiser,
    Sampling,
    check_model,
    denoiser_of,
    drop_labels,
    game,
    generator,
    ode_log_prob,
    shape_of,
    with_label,
)
from jaxgen.tasks.teacher import denoiser_loader, teacher_of

EVEN = Sampling("heun", 25, "time")
LOW, HIGH = 0.002, 1000.0  # range of sigma / alpha for the likelihood by the ODE
ENTROPY = 0.02  # of Sinkhorn's plan, in units of the costs' standard deviation
ITERATIONS = 100  # of Sinkhorn's algorithm


@dataclass(frozen=True)
class Flow:
    """Hyper-parameters of a flow."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 0  # number of classes; 0: unconditional
    net: BackboneConfig = BackboneConfig()
    path: Literal["straight", "cosine"] = "straight"
    times: Literal["uniform", "logit-normal"] = "uniform"  # in training
    coupling: Literal["independent", "ot", "reflow"] = "independent"  # of noise and images in a batch
    teacher: str = ""  # reflow: folder of a flow's run; its samples replace the images
    shift: Annotated[float, Range(1e-3)] = 1.0  # factor on sigma / alpha, above 1 for larger images
    drop: Decay = 0.1  # share of labels replaced by the null label in training
    sampling: Sampling = EVEN
    learning_rate: float = 5e-4  # of Adam
    ema: Decay = 0.9999  # decay of the EMA
    autoencoder: str = ""  # folder of a train.vae run, to model its latents; empty: model images

    shape = property(shape_of)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for settings that are invalid together."""
        del steps
        self.check()
        d = self.denoiser
        frozen = {"teacher": denoiser_loader(self.teacher)} if self.teacher else {}
        return game(self, generator(d, self.sampling), ode_log_prob(d, LOW, HIGH), denoiser=d, frozen=frozen)

    def check(self):
        check_model(self)
        self.sampling.check(self.classes, self.drop, "flow")
        if (self.coupling == "reflow") != bool(self.teacher):
            raise InputError("model.coupling=reflow needs model.teacher, the folder of a run: give both or neither.")
        if self.teacher:
            teacher_of(self.teacher, Flow, self)

    @property
    def schedule(self) -> schedules.Schedule:
        plain = schedules.rectified_flow() if self.path == "straight" else schedules.cosine()
        return schedules.shifted(plain, self.shift) if self.shift != 1 else plain

    @property
    def module(self):
        return self.net.module(self.shape[-1], self.classes)

    @property
    def denoiser(self) -> Denoiser:
        how = self.sampling
        taus = grid(how.grid, how.steps, "flow", LOW, HIGH, self.schedule)
        return denoiser_of(self, self.predict_x0, "flow", taus)

    def init(self, key: Key, spec: Any = None):
        return {"denoiser": _nets.init(self.module, rng.fold(key, "denoiser"), self.shape, self.classes)}, {}

    def coefficients(self, t: Array) -> tuple[Array, Array, Array, Array]:
        """Return alpha, sigma and their derivatives at times f32[b] of the path, without shift."""
        if self.path == "straight":
            return 1 - t, t, -jnp.ones_like(t), jnp.ones_like(t)
        angle, speed = jnp.pi / 2 * t, jnp.pi / 2
        return jnp.cos(angle), jnp.sin(angle), -speed * jnp.sin(angle), speed * jnp.cos(angle)

    def velocity(self, params: Params, x: Array, t: Array, label: Array | None, dropout: Key | None = None) -> Array:
        """Return the net's velocity at x_t and times t f32[b]."""
        return _nets.call(self.module, params["denoiser"], x, 1000 * t, label, dropout=dropout)

    def predict_x0(self, params: Params, context: Context, x: Array, tau: Array, conditioning: Batch) -> Array:
        """Return E[x0 | x] for x = (1 - tau) x0 + tau eps."""
        del context
        t = tau if self.path == "straight" else 2 / jnp.pi * jnp.arctan2(tau, 1 - tau)
        alpha, sigma, d_alpha, d_sigma = (expand_like(x, v) for v in self.coefficients(t))
        xt = (alpha + sigma) * x
        u = self.velocity(params, xt, t, conditioning.get("label"))
        # x_t and u are two linear equations for x0 and eps; this solves them for x0.
        return (d_sigma * xt - sigma * u) / (alpha * d_sigma - sigma * d_alpha)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x0, label = batch[kind_of(self.shape)], batch["label"] if self.classes else None
        keys = {name: rng.fold(key, name) for name in ("t", "eps", "deal", "hide", "dropout")}
        t = self.draw_times(keys["t"], len(x0))
        eps = rng.normal(jax.random.split(keys["eps"], len(x0)), self.shape)
        if self.coupling == "ot":
            eps = eps[ot_pairing(x0, eps, keys["deal"], label)]
        if self.coupling == "reflow":
            x0 = self.teacher_samples(context, eps, label)
        alpha, sigma, d_alpha, d_sigma = (expand_like(x0, v) for v in self.coefficients(t))
        label = drop_labels(label, self.classes, self.drop, keys["hide"])
        u = self.velocity(params, alpha * x0 + sigma * eps, t, label, keys["dropout"] if self.net.dropout else None)
        error = jnp.square(u - (d_alpha * x0 + d_sigma * eps)).mean(range(1, x0.ndim))  # [b]
        return error.mean(), Aux()

    def teacher_samples(self, context: Context, eps: Array, label: Array | None) -> Array:
        """Return the teacher's samples from noise f32[b h w c] and labels, by its ODE."""
        teacher = teacher_of(self.teacher, Flow, self)
        nets, conditioning = {"denoiser": context.frozen["teacher"]}, with_label(label)
        denoise = lambda x, tau: teacher.predict_x0(nets, context, x, tau, conditioning)  # noqa: E731
        taus = teacher.denoiser.taus
        return jax.lax.stop_gradient(heun(denoise, taus[0] * eps, taus))

    def draw_times(self, key: Key, count: int) -> Array:
        """Return random training times f32[b], with the path's shift."""
        u = (
            jax.random.uniform(key, (count,))
            if self.times == "uniform"
            else jax.nn.sigmoid(jax.random.normal(key, (count,)))
        )
        alpha, sigma, _, _ = self.coefficients(u)
        ratio = self.shift * sigma / jnp.maximum(alpha, 1e-6)
        return ratio / (1 + ratio) if self.path == "straight" else 2 / jnp.pi * jnp.arctan(ratio)


def ot_pairing(x0: Array, eps: Array, key: Key, label: Array | None = None) -> Array:
    """Return the index of the noise for each image, i32[b], drawn from the rows of an optimal transport plan.

    The plan minimises sum_ij p_ij |x_i - eps_j|^2 minus a small entropy term, with uniform marginals: Cuturi 2013,
    Sinkhorn's algorithm in logarithms. Terms that are constant in a row or column of the costs, such as |x_i|^2, do not
    change the plan. They are removed first, and the entropy is scaled by the rest, which is small for images.

    label: i32[b]; p_ij is 0 between different labels. Over all labels, p(eps | label) would not be normal.
    """
    label = jnp.zeros(len(x0), jnp.int32) if label is None else label
    same = label[:, None] == label[None]  # [b b]
    share = same / same.sum(1, keepdims=True)
    a, b = (v.reshape(len(v), -1) for v in (x0, eps))
    cost = jnp.where(same, -2 * (a - share @ a) @ (b - share @ b).T, 0)  # of each label, rows and columns of mean 0
    spread = jnp.sqrt(jnp.square(cost).sum() / same.sum())
    logits = jnp.where(same, -cost / (ENTROPY * jnp.maximum(spread, 1e-12)), -jnp.inf)

    def scale(_, logits):
        logits = jax.nn.log_softmax(logits, 0)
        return jax.nn.log_softmax(logits, 1)

    logits = jax.lax.fori_loop(0, ITERATIONS, scale, jax.lax.stop_gradient(logits))
    return jax.random.categorical(key, logits, 1)


OT = row(Flow(coupling="ot"), 1_921_601, net=SMALL["uvit"])
PRESETS = {
    "flow": replace(row(Flow(), 1_921_601), tiny=OT.tiny),
    "flow-ot": OT,
    "sit": row(Flow(net=BackboneConfig("dit", 192, 6, 6, patch=2), classes=10), 4_162_948),
}
