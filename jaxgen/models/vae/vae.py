"""VAE: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

The encoder gives q(z | x) = N(mu, sigma^2), the decoder p(x | z), and both maximise the evidence lower bound
E_q [log p(x | z)] - KL(q(z | x) || N(0, I)) (equation 10, one sample). Perceptrons as in appendix C.2 but with ReLU,
convolutions or residual blocks; pictures as Bernoulli, Gaussian or discretised-logistic variables. With classes both
nets are told the label (Sohn et al. 2015; cvae.py); beta, annealing and free bits weigh the two terms (beta_vae.py).

Measured: the imported `mnist_vae` (784-400-20) has -ELBO 103.2 nats on MNIST's test set, grey pixels, one sample
(tests/test_vae.py); our own training is not yet measured.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxgen import rng
from jaxgen.config import Data, Log, Preset, Run, Save
from jaxgen.core import Array, Aux, Context, Key, Latent, Learner, Params, Phase, Task
from jaxgen.errors import InputError, at_least, check_labels
from jaxgen.losses.elbo import LIKELIHOODS, free, kl_standard, normal_log_prob
from jaxgen.metrics.likelihood import DISCRETE, bits_per_dimension
from jaxgen.models.vae.nets import Decoder, Encoder, Image, Nets, first_matrix
from jaxgen.nn.priors import normal

COLLAPSED = 0.01  # nats: a latent whose KL is below is not used. Burda et al. 2016 count by variance, alike.


@dataclass(frozen=True)
class VAE:
    """Hyper-parameters of a variational autoencoder."""

    image: Image = (28, 28, 1)  # height, width, channels
    latent: int = 20  # numbers in z
    nets: Nets = Nets()
    likelihood: Literal["bernoulli", "gaussian", "logistic"] = "bernoulli"  # of pictures, given z
    classes: int = 0  # labels are below it; 0: unconditional
    beta: float = 1.0  # weight of the KL
    anneal: int = 0  # steps over which that weight rises from 0
    free_bits: float = 0.0  # nats that each latent has for nothing
    learning_rate: float = 1e-3  # of Adam

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError where the nets can't make such pictures."""
        del steps
        self.nets.check(self.image)
        at_least(1, model__latent=self.latent)
        at_least(0, model__classes=self.classes, model__beta=self.beta, model__anneal=self.anneal)
        at_least(0, model__free_bits=self.free_bits)
        label = {"label": jax.ShapeDtypeStruct((), jnp.int32)} if self.classes else {}
        same = lambda params, context, z, given: z  # noqa: E731
        latent = Latent(normal(self.latent), same, self.synthesise, factors=self.factors)

        def generate(params, context, keys, given):
            z = latent.draw(keys, given.get("truncation"))
            return {"image": self.synthesise(params, context, z, given)}

        return Task(
            init=self.init,
            example={"image": jax.ShapeDtypeStruct(self.image, jnp.float32), **label},
            learners={"vae": Learner(("encoder", "decoder"), optax.adam(self.learning_rate))},
            phases=(Phase("vae", "vae", self.loss),),
            given=tuple(label),
            classes=self.classes,
            generate=generate,
            latent=latent,
            encode=self.encode,
            decode=self.synthesise,
            log_prob=self.log_prob,
        )

    def check_data(self, data: Data):
        """Raise InputError where pictures would be black and white only, and the likelihood is of grey ones."""
        if data.binarise != "none" and self.likelihood != "bernoulli":
            raise InputError(
                f"data.binarise={data.binarise} makes pixels of two values, model.likelihood={self.likelihood} is of "
                "many: give --model.likelihood bernoulli, or leave the pictures grey."
            )

    @property
    def p(self):
        return LIKELIHOODS[self.likelihood]

    @property
    def encoder(self) -> Encoder:
        return Encoder(self.nets, ("mean", "log_var"), self.latent, self.classes)

    @property
    def decoder(self) -> Decoder:
        return Decoder(self.nets, self.image, self.image[2] * self.p.parts, self.classes)

    def init(self, key: Key, spec: Any = None):
        label = jnp.zeros(2, jnp.int32) if self.classes else None
        nets = {
            "encoder": self.encoder.init(rng.fold(key, "encoder"), jnp.zeros((2, *self.image)), label),
            "decoder": self.decoder.init(rng.fold(key, "decoder"), jnp.zeros((2, self.latent)), label),
        }
        return {net: v["params"] for net, v in nets.items()}, {}

    def label_of(self, batch) -> Array | None:
        return batch["label"] if self.classes else None

    def posterior(self, params: Params, batch) -> tuple[Array, Array]:
        """Return the mean and the log variance of q(z | x), f32[b latent]."""
        x = self.p.values(batch["image"])
        found: Any = self.encoder.apply({"params": params["encoder"]}, x, self.label_of(batch))
        return found["mean"], found["log_var"]

    def log_likelihood(self, params: Params, z: Array, batch) -> Array:
        """Return log p(x | z) in nats, f32[b], z f32[b latent]."""
        out: Any = self.decoder.apply({"params": params["decoder"]}, z, self.label_of(batch))
        return self.p.log_prob(batch["image"], out)

    def weight(self, step: Array) -> Array:
        """Return the weight of the KL at a step. Bowman et al. 2016, section 3.1."""
        return self.beta * jnp.minimum(1.0, step / self.anneal) if self.anneal else jnp.float32(self.beta)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        mean, log_var = self.posterior(params, batch)
        noise = rng.normal(jax.random.split(key, len(mean)), (self.latent,))
        log_p = self.log_likelihood(params, mean + jnp.exp(log_var / 2) * noise, batch)
        kl = kl_standard(mean, log_var)  # [b latent]
        cost = free(kl, self.free_bits).sum() if self.free_bits else kl.sum(1).mean()
        metrics = {
            "elbo": (log_p - kl.sum(1)).mean(),
            "reconstruction": -log_p.mean(),
            "kl": kl.sum(1).mean(),
            "active_units": (kl.mean(0) > COLLAPSED).sum(dtype=jnp.float32),
        }
        if self.p.levels:
            metrics["bits_per_dimension"] = bits_per_dimension(metrics["elbo"], math.prod(self.image), DISCRETE)
        return self.weight(context.step) * cost - log_p.mean(), Aux(metrics)

    def log_weight(self, params: Params, batch, mean: Array, log_var: Array, z: Array) -> Array:
        """Return log p(x, z) - log q(z | x) in nats, f32[b], q being N(mean, exp(log_var))."""
        prior = normal_log_prob(z, jnp.zeros_like(z), jnp.zeros_like(z))
        return self.log_likelihood(params, z, batch) + prior - normal_log_prob(z, mean, log_var / 2)

    def log_prob(self, params: Params, context: Context, batch, keys: Key, samples: int = 1) -> Array:
        """Return log 1/k sum_i p(x, z_i) / q(z_i | x) in nats, f32[b], of k samples; keys Key[b].

        The evidence lower bound with one sample, log p(x) with many. Burda et al. 2016, equation 8.
        """
        mean, log_var = self.posterior(params, batch)

        def add(total, i):
            noise = rng.normal(jax.vmap(jax.random.fold_in, (0, None))(keys, i), (self.latent,))
            z = mean + jnp.exp(log_var / 2) * noise
            return jnp.logaddexp(total, self.log_weight(params, batch, mean, log_var, z)), None

        total, _ = jax.lax.scan(add, jnp.full(len(mean), -jnp.inf), jnp.arange(samples))
        return total - jnp.log(samples)

    def encode(self, params: Params, context: Context, batch) -> Array:
        """Return the mean of q(z | x), f32[b latent]."""
        return self.posterior(params, batch)[0]

    def factors(self, params: Params, context: Context) -> tuple[Array]:
        """Return the matrix [latent n] of the decoder's first layer."""
        return (first_matrix(params["decoder"], self.latent),)

    def synthesise(self, params: Params, context: Context, z: Array, given) -> Array:
        """Return E[x | z], f32[b h w c] in [-1, 1]."""
        check_labels(self.classes, given)
        out: Any = self.decoder.apply({"params": params["decoder"]}, z, self.label_of(given))
        return jnp.clip(self.p.mean(out), -1, 1)


def row(model: Any, parameters: int, source: str = "digits", measured: str = "not yet measured", **small) -> Preset:
    """Return a preset, with a tiny run of 8x8 pictures."""
    nets = Nets(model.nets.kind, 16 if model.nets.kind == "mlp" else 4, model.nets.depth)
    reduced = replace(model, image=(8, 8, model.image[2]), latent=4, nets=nets, **small)
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
        measured=measured,
    )


CONV = Nets("conv", 32)
PRESETS = {
    "vae": row(VAE(), 652_824, measured="the imported mnist_vae: -ELBO 103.2 nats on MNIST"),
    "vae-conv": row(VAE(image=(32, 32, 1), latent=32, nets=CONV), 527_745),
    "vae-residual": row(
        VAE(image=(32, 32, 3), latent=64, nets=Nets("residual", 32, 1), likelihood="logistic"), 1_158_982, "shapes"
    ),
}
