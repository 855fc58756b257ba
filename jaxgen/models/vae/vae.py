"""VAE: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

The encoder returns q(z | x) = N(mu, sigma^2), the decoder p(x | z). Both maximise the evidence lower bound
E_q [log p(x | z)] - KL(q(z | x) || N(0, I)) (equation 10, with one sample). The nets are MLPs as in appendix C.2 but
with ReLU, convolutions, or residual blocks. Pixels are Bernoulli, Gaussian or discretised-logistic variables. With
classes both nets are conditioned on the label (Sohn et al. 2015; cvae.py). beta, annealing and free bits change the
weight of the KL (beta_vae.py).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.nn import logsumexp

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec, Density, Latent
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, check_labels
from jaxgen.core.ranges import Count, check_settings
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, Phase
from jaxgen.interop.weight_names import Layout, Path, Rule, plain
from jaxgen.losses.elbo import LIKELIHOODS, active_units, free_bits, kl_standard, normal_log_density
from jaxgen.metrics.likelihood import DISCRETE, bits_per_dimension
from jaxgen.models.vae._nets import Image, ImageDecoder, ImageEncoder, NetConfig, first_matrix
from jaxgen.nn.priors import normal
from jaxgen.tasks.transforms import example_generation


@dataclass(frozen=True)
class VAE:
    """Hyper-parameters of a variational autoencoder."""

    image: Image = (28, 28, 1)  # height, width, channels
    latent: Count = 20  # size of z
    nets: NetConfig = NetConfig()
    likelihood: Literal["bernoulli", "gaussian", "logistic"] = "bernoulli"  # p(x | z) of a pixel
    classes: int = 0  # number of classes; 0: unconditional
    beta: float = 1.0  # weight of the KL
    anneal: int = 0  # steps of a linear warm-up of that weight from 0
    free_bits: float = 0.0  # nats of each latent's KL that cost nothing
    learning_rate: float = 1e-3  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the nets can't make."""
        del steps
        self.check()
        example = labelled(self.image, self.classes)
        latent = self.latent_space()

        def generate(params, context, keys, given):
            z = latent.draw(keys, given.get("truncation"))
            return {"image": latent.synthesise(params, context, latent.map(params, context, z, given), given)}

        params, _ = jax.eval_shape(lambda: self.init(jax.random.key(0)))
        return Task(
            init=self.init,
            example=example,
            learners={"vae": Learner(tuple(params), optax.adam(self.learning_rate))},
            phases=(Phase("vae", "vae", self.loss),),
            capabilities=(
                example_generation(generate, example),
                latent,
                Codec(self.encode, self.synthesise, ("label",) if self.classes else ()),
                Density(self.log_prob, continuous=self.likelihood == "gaussian"),
            ),
        )

    def check(self):
        """Raise InputError for settings out of range."""
        check_settings(self, "model.")
        self.nets.check(self.image)

    def latent_space(self) -> Latent:
        """Return how latents are drawn, mapped and decoded."""
        same = lambda params, context, z, given: z  # noqa: E731
        return Latent(normal(self.latent), same, self.synthesise, factors=self.factors)

    def check_run(self, run: Run):
        """Raise InputError for binarised images with a likelihood of grey pixels."""
        how = run.data.binarise
        if how != "none" and self.likelihood != "bernoulli":
            raise InputError(
                f"data.binarise={how} gives pixels of two values, but model.likelihood={self.likelihood} needs grey "
                "values: give --model.likelihood bernoulli, or --data.binarise none."
            )

    @property
    def p(self):
        """The likelihood p(x | z) of pixels."""
        return LIKELIHOODS[self.likelihood]

    @property
    def encoder(self) -> ImageEncoder:
        return ImageEncoder(self.nets, ("mean", "log_var"), self.latent, self.classes)

    @property
    def decoder(self) -> ImageDecoder:
        return ImageDecoder(self.nets, self.image, self.image[2] * self.p.parts, self.classes)

    def init(self, key: Key, spec: Any = None):
        label = jnp.zeros(2, jnp.int32) if self.classes else None
        nets = {
            "encoder": self.encoder.init(rng.fold(key, "encoder"), jnp.zeros((2, *self.image)), label),
            "decoder": self.decoder.init(rng.fold(key, "decoder"), jnp.zeros((2, self.latent)), label),
        }
        return {net: v["params"] for net, v in nets.items()}, {}

    def label_of(self, batch) -> Array | None:
        return batch["label"] if self.classes else None

    # ---- q(z | x) and p(z), which subclasses replace

    def posterior(self, params: Params, batch) -> Any:
        """Return the parameters of q(z | x): the mean and the log variance, f32[b latent] each."""
        x = self.p.values(batch["image"])
        found: Any = self.encoder.apply({"params": params["encoder"]}, x, self.label_of(batch))
        return found["mean"], found["log_var"]

    def sample_posterior(self, params: Params, q: Any, noise: Array) -> tuple[Array, Array]:
        """Return z f32[b latent] ~ q(z | x), computed from noise ~ N(0, I), and log q(z | x) of each latent."""
        mean, log_var = q
        return mean + jnp.exp(log_var / 2) * noise, normal_log_density(noise) - log_var / 2

    def prior(self, params: Params) -> Any:
        """Return the parameters of p(z): none, it is N(0, I)."""
        return ()

    def log_prior(self, p: Any, z: Array) -> Array:
        """Return log p(z) in nats, f32[b]."""
        return normal_log_density(z).sum(1)

    def kl_divergence(self, params: Params, q: Any, z: Array, log_q: Array) -> Array:
        """Return KL(q || p) in nats, or an unbiased estimate, f32[b latent]; f32[b 1] where p has no coordinates."""
        return kl_standard(*q)  # [b latent]

    # ----

    def log_likelihood(self, params: Params, z: Array, batch) -> Array:
        """Return log p(x | z) in nats, f32[b], for z f32[b latent]."""
        out: Any = self.decoder.apply({"params": params["decoder"]}, z, self.label_of(batch))
        return self.p.log_prob(batch["image"], out)

    def kl_weight(self, step: Array) -> Array:
        """Return the weight of the KL at a step (Bowman et al. 2016, section 3.1)."""
        return self.beta * jnp.minimum(1.0, step / self.anneal) if self.anneal else jnp.float32(self.beta)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        q = self.posterior(params, batch)
        z, log_q = self.sample_posterior(
            params, q, rng.normal(jax.random.split(key, len(batch["image"])), (self.latent,))
        )
        log_p = self.log_likelihood(params, z, batch)
        kl = self.kl_divergence(params, q, z, log_q)  # [b n]
        cost = free_bits(kl, self.free_bits).sum() if self.free_bits else kl.sum(1).mean()
        metrics = {
            "elbo": (log_p - kl.sum(1)).mean(),
            "reconstruction": -log_p.mean(),
            "kl": kl.sum(1).mean(),
            "active_units": active_units(self.posterior_mean(params, q)),
        }
        if self.p.levels:
            metrics["bits_per_dimension"] = bits_per_dimension(metrics["elbo"], math.prod(self.image), DISCRETE)
        return self.kl_weight(context.step) * cost - log_p.mean(), Aux(metrics)

    def log_weight(self, params: Params, batch, p: Any, z: Array, log_q: Array) -> Array:
        """Return log p(x, z) - log q(z | x) in nats, f32[b], for log q f32[b latent] of each latent."""
        return self.log_likelihood(params, z, batch) + self.log_prior(p, z) - log_q.sum(1)

    def log_prob(self, params: Params, context: Context, batch, keys: Key, samples: int = 1) -> Array:
        """Return log 1/k sum_i p(x, z_i) / q(z_i | x) in nats, f32[b], with k samples; keys Key[b].

        One sample estimates the evidence lower bound; many samples approach log p(x). Burda et al. 2016, equation 8.
        """
        q, p = self.posterior(params, batch), self.prior(params)

        def one_sample(i):
            noise = rng.normal(jax.vmap(jax.random.fold_in, (0, None))(keys, i), (self.latent,))
            return self.log_weight(params, batch, p, *self.sample_posterior(params, q, noise))

        def add(total, indices):
            return jnp.logaddexp(total, logsumexp(jax.vmap(one_sample)(indices), axis=0)), None

        # For small batches several samples are computed together: matrix products of a hundred rows are half as fast.
        limit = max(1, 1000 // len(keys))
        group = next(n for n in range(limit, 0, -1) if samples % n == 0)
        total, _ = jax.lax.scan(add, jnp.full(len(keys), -jnp.inf), jnp.arange(samples).reshape(-1, group))
        return total - jnp.log(samples)

    def posterior_mean(self, params: Params, q: Any) -> Array:
        """Return the mean of q(z | x), or a point that represents it, f32[b latent]."""
        return q[0]

    def encode(self, params: Params, context: Context, batch) -> Array:
        """Return the mean of q(z | x), f32[b latent]."""
        return self.posterior_mean(params, self.posterior(params, batch))

    def factors(self, params: Params, context: Context) -> tuple[Array]:
        """Return the kernel [latent n] of the decoder's first layer."""
        return (first_matrix(params["decoder"], self.latent),)

    def synthesise(self, params: Params, context: Context, z: Array, given) -> Array:
        """Return E[x | z], f32[b h w c] in [-1, 1]."""
        check_labels(self.classes, given)
        out: Any = self.decoder.apply({"params": params["decoder"]}, z, self.label_of(given))
        return jnp.clip(self.p.mean(out), -1, 1)


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """Return the name in PyTorch's VAE example, fc1 to fc4, for an MLP with one hidden layer; else the plain rule's."""
    name, layout = plain(model, net, path, shape)
    if model.nets.kind == "mlp" and model.nets.depth == 1:
        hidden = {"encoder": "fc1", "decoder": "fc3"}[net]
        module, _, leaf = name.rpartition(".")
        name = f"{ {'hidden.0': hidden, 'mean': 'fc21', 'log_var': 'fc22', 'out': 'fc4'}.get(module, module) }.{leaf}"
    return name, layout


WEIGHT_NAMES: Rule = weight_name


def row(model: Any, parameters: int, source: str = "digits", **small) -> Preset:
    """Return a preset; its tiny run has 8x8 images, small nets and the fields `small`."""
    nets = NetConfig(model.nets.kind, 16 if model.nets.kind == "mlp" else 4, model.nets.depth)
    reduced = replace(model, image=(8, 8, model.image[2]), latent=4, nets=nets, **small)
    return preset(model, reduced, parameters, source)


def preset(model: Any, reduced: Any, parameters: int, source: str) -> Preset:
    """Return the preset of a model and its reduced version."""
    count = 100 if getattr(model, "classes", 0) else 64
    return Preset(
        Run(
            model,
            data=Data(source),
            steps=20_000,
            batch=100,
            log=Log(every=100, samples=1000, count=count),
            save=Save(every=1000),
        ),
        tiny=Run(
            reduced,
            data=Data(source),
            steps=20,
            batch=16,
            log=Log(every=5, samples=10, count=16),
            save=Save(every=10),
        ),
        parameters=parameters,
    )


CONV = NetConfig("conv", 32)
PRESETS = {
    "vae": row(VAE(), 652_824),
    "vae-conv": row(VAE(image=(32, 32, 1), latent=32, nets=CONV), 527_745),
    "vae-residual": row(
        VAE(image=(32, 32, 3), latent=64, nets=NetConfig("residual", 32, 1), likelihood="logistic"), 1_158_982, "shapes"
    ),
}
