"""Training and sampling that all diffusion models with a denoiser share: label dropout, guidance, a likelihood."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.core import paths, rng
from jaxgen.core.capabilities import Denoiser, Density, Transform
from jaxgen.core.errors import InputError, at_least, check_labels
from jaxgen.core.ranges import Count, Share, check_settings
from jaxgen.core.spec import Example, kind_of, labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.diffusion import guidance, likelihood, samplers
from jaxgen.diffusion.grids import Grid
from jaxgen.diffusion.guidance import ALL_LEVELS
from jaxgen.diffusion.schedules import Frame, alpha_of, expand_like
from jaxgen.metrics.likelihood import EIGHT_BIT
from jaxgen.runs.config_io import load_config
from jaxgen.tasks import latent_diffusion
from jaxgen.tasks.classification import cross_entropy
from jaxgen.tasks.frozen_autoencoder import autoencoder_of, pixels_of
from jaxgen.tasks.teacher import check_scale, context_of, describe, load
from jaxgen.tasks.transforms import example_generation

Name = Literal["ddim", "ddpm", "euler-ancestral", "heun", "dpm++2m", "dpm++2m-sde", "unipc", "lms", "dopri5"]


NEGATIVE = "negative_"  # before a condition's name: the condition that samples are led away from


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling. They do not affect training; `generate` and `evaluate` accept others.

    guidance: the scale of classifier-free guidance, or of guidance by a weaker model (`guide`)
    scale:    the scale of classifier guidance (`classifier`)
    """

    sampler: Name = "heun"
    steps: Count = 18  # of the sampler
    grid: Grid = "karras"  # noise levels evenly spaced in time, sigma^(1/7), log sigma or the angle
    guidance: float = 1.0  # away from the unconditional prediction; 1: none
    guide: str = ""  # or away from a weaker or an unconditional model: the folder of its run
    classifier: str = ""  # towards a class, by a noise-conditional classifier: the folder of its run
    scale: float = 1.0  # factor on the classifier's gradient
    interval: tuple[float, float] = ALL_LEVELS  # noise levels sigma / alpha at which guidance is applied
    rescale: Share = 0.0  # 0 to 1: how far contrast is moved back to that without guidance
    churn: float = 0.0  # heun: noise added before a step and removed by it, in steps
    eta: float = 1.0  # ddpm: factor on its noise; 0 is ddim
    clip: bool = False  # clip the predicted x0 to [-1, 1] (images only: latents are unbounded)

    def check(self, classes: int, drop: float, frame: Frame):
        """Raise InputError for settings that are invalid, alone or for this model."""
        guidance.check_guidance(self.guidance, self.interval, self.rescale)
        if not self.guide:
            guidance.check_null(self.guidance, classes, drop)
        if self.guide and self.guidance == 1:
            raise InputError("A guide has no effect with guidance=1: give both, such as guidance=2.")
        if self.scale != 1 and not self.classifier:
            raise InputError("scale is a factor on a classifier's gradient: give both, such as classifier=RUN,scale=2.")
        samplers.sampler_of(self.sampler, frame, self.churn, self.eta)

    @property
    def nfe(self) -> int | None:
        """Function evaluations (NFE) for each image; None where they depend on the image."""
        calls = samplers.function_evaluations(self.sampler, self.steps)
        return calls and calls * self.nfe_per_call

    @property
    def nfe_per_call(self) -> int:
        """Function evaluations (NFE) for each call of the denoiser."""
        return 2 if self.guidance != 1 else 1


def drop_labels(label: Array | None, classes: int, share: float, key: Key) -> Array | None:
    """Return labels i32[b] with this share of them replaced by the null label. Ho and Salimans 2022, algorithm 1."""
    if label is None:
        return None
    return jnp.where(jax.random.bernoulli(key, share, label.shape), classes, label)


def with_label(label: Array | None) -> dict[str, Array]:
    """Return the conditioning of labels i32[b], {} without any."""
    return {} if label is None else {"label": label}


def guided(d: Denoiser, params: Params, context: Context, conditioning: Batch, how: Sampling) -> samplers.Denoise:
    """Return (x, tau) -> E[x0 | x, conditioning], with guidance.

    Classifier-free guidance computes both predictions in one call of the net; the second is without a condition, or
    with another one that samples shall not be like, `negative_<name>`. A net without classes takes labels i32[b] where
    a classifier guides it.
    """
    own = {name: conditioning[name] for name in d.null}
    against = {name: key for name in d.null if (key := f"{NEGATIVE}{name}") in conditioning}

    def classifier_free(x: Array, tau: Array) -> tuple[Array, Array]:
        twice = lambda v: jnp.concatenate([v, v])  # noqa: E731
        other = d.unconditional(len(x)) | {name: conditioning[key] for name, key in against.items()}
        both = {name: jnp.concatenate([v, other[name]]) for name, v in own.items()}
        conditional, unconditional = jnp.split(d.predict_x0(params, context, twice(x), twice(tau), both), 2)
        return conditional, unconditional

    def unguided(x: Array, tau: Array) -> Array:
        return d.predict_x0(params, context, x, tau, own)

    def by_weaker_model(x: Array, tau: Array) -> tuple[Array, Array]:
        nets, guide = context.frozen["guide"], load_config(paths.path(how.guide)).model.denoiser
        known = {name: own[name] for name in guide.null}  # none, for an unconditional guide
        return unguided(x, tau), guide.predict_x0(nets["params"], context_of(nets), x, tau, known)

    denoise = unguided
    if how.guidance != 1:
        predictions = by_weaker_model if how.guide else classifier_free
        denoise = guidance.extrapolate(predictions, how.guidance, how.interval, how.rescale, d.frame)
    if how.classifier:
        log_prob = classifier_log_prob(d, context, conditioning["label"], how)
        denoise = guidance.guide_by_gradient(denoise, log_prob, how.scale, how.interval, d.frame)
    return (lambda x, tau: jnp.clip(denoise(x, tau), -1, 1)) if how.clip and not d.encode else denoise


def classifier_log_prob(
    d: Denoiser, context: Context, label: Array, how: Sampling
) -> Callable[[Array, Array, Array], Array]:
    """Return (x, tau, D) -> log p(label | x) f32[b], computed by the run of a classifier."""
    classifier, nets = load_config(paths.path(how.classifier)).model, context.frozen["classifier"]

    def log_prob(x: Array, tau: Array, _: Array) -> Array:
        alpha = alpha_of(d.frame, tau)
        xt = x / expand_like(x, jnp.hypot(alpha, tau))
        logits = classifier.classify_noisy(nets["params"], context_of(nets), xt, jnp.arctan2(tau, alpha))
        return -cross_entropy(logits, label)

    return log_prob


def denoiser_of(
    model: Any, predict_x0: Callable, frame: Frame, taus: Any, predict_x0_and_variance: Callable | None = None
) -> Denoiser:
    """Return a model's denoiser, with encode and decode where the model works on latents."""
    codec = latent_diffusion.latent_codec(model) if model.autoencoder else ()
    null = {"label": model.classes} if model.classes else {}
    learned = bool(model.drop)
    return Denoiser(predict_x0, frame, taus, shape_of(model), null, learned, predict_x0_and_variance, *codec)


def start(d: Denoiser, keys: Key) -> Array:
    """Return pure noise at the first noise level, f32[b ...]."""
    folded = jax.vmap(lambda key: rng.fold(key, "start"))(keys)
    return jnp.float32(d.taus[0]) * rng.normal(folded, d.shape)


def generator(d: Denoiser, how: Sampling) -> Callable:
    """Return the `generate` function that `game` takes."""
    learned = d.predict_x0_and_variance if how.sampler == "ddpm" and how.guidance == 1 and not how.classifier else None
    labels: Any = d.null.get("label", 0)
    classes, kind = classes_of(labels, how), kind_of(d.shape)
    sample = samplers.sampler_of(how.sampler, d.frame, how.churn, how.eta, learned is not None)

    def generate(params: Params, context: Context, keys: Key, given):
        check_labels(classes, given)
        conditioning = {"label": given["label"]} if classes else {}
        conditioning |= {k: v for k, v in given.items() if k.removeprefix(NEGATIVE) in d.null}
        denoise = guided(d, params, context, conditioning, how)
        if learned is not None:
            own = {name: conditioning[name] for name in d.null}
            clip = (lambda x: jnp.clip(x, -1, 1)) if how.clip and not d.encode else (lambda x: x)
            both = partial(learned, params, context)
            denoise = lambda x, tau: (clip((out := both(x, tau, own))[0]), out[1])  # noqa: E731
        if how.nfe is None:  # an adaptive solver: each sample has its own steps
            x, calls = samplers.dopri5(denoise, start(d, keys), d.taus)
            return {kind: x, "nfe": calls * how.nfe_per_call}
        return {kind: sample(denoise, start(d, keys), d.taus, keys)}

    return generate


def ode_log_prob(d: Denoiser, low: float, high: float, spread: float = 0.5) -> Callable:
    """Return a task's `log_prob`: a lower bound of log P of 8-bit images in nats, by the ODE of dequantised images.

    Images are dequantised with uniform noise of the width of a level, 2 / 255. Each of `samples` draws new noise and a
    new direction for the trace; their log p are averaged.

    spread: the standard deviation of the data
    """

    def in_ve(params, context, conditioning):
        def denoise(x, sigma):
            if d.frame == "ve":
                return d.predict_x0(params, context, x, sigma, conditioning)
            return d.predict_x0(params, context, x / expand_like(x, 1 + sigma), sigma / (1 + sigma), conditioning)

        return denoise

    def log_prob(params: Params, context: Context, batch, keys: Key, samples: int = 1) -> Array:
        x = batch[kind_of(d.shape)]
        denoise = in_ve(params, context, {name: batch[name] for name in d.null})

        def one(total, i):
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            level = 0.5 * EIGHT_BIT * rng.uniform(jax.vmap(lambda k: rng.fold(k, "level"))(own), x.shape[1:])
            found = likelihood.log_prob(denoise, x + level, own, low, high, spread=spread)
            return total + found, None

        total, _ = jax.lax.scan(one, jnp.zeros(len(x)), jnp.arange(samples))
        return total / samples + math.prod(x.shape[1:]) * math.log(EIGHT_BIT)

    return log_prob


def game(
    model: Any,
    generate: Callable,
    log_prob: Callable | None = None,
    loss: Any = None,
    denoiser: Denoiser | None = None,
    frozen: Mapping[str, Callable] | None = None,
    conditions: Example = {},  # noqa: B006
) -> Task:
    """Return the training task of one net, "denoiser", with Adam and an EMA, from a model's `init` and `loss`.

    `generate` returns images, which are clipped to [-1, 1] here, or latents of model.autoencoder, which are decoded.
    conditions: arrays of an example that samples are conditioned on, beside the label; of each there is a negative one
    """
    finish = latent_diffusion.with_autoencoder if model.autoencoder else in_range
    if guide := getattr(model.sampling, "guide", ""):
        check_guide(guide, model, denoiser)
        frozen = {**(frozen or {}), "guide": partial(load, guide)}
    if classifier := getattr(model.sampling, "classifier", ""):
        check_classifier(classifier, model)
        frozen = {**(frozen or {}), "classifier": partial(load, classifier)}
    classes = classes_of(model.classes, model.sampling)
    example = {**labelled(pixels_of(model), classes), **conditions}
    against = {f"{NEGATIVE}{name}": replace(spec, optional=True) for name, spec in conditions.items()}
    density = (Density(log_prob),) if log_prob is not None and not model.autoencoder else ()
    task = Task(
        init=model.init,
        example=example,
        learners={"denoiser": Learner(("denoiser",), model.net.adam(model.learning_rate))},
        phases=(Phase("denoiser", "denoiser", loss or model.loss),),
        ema=(Ema("denoiser", ramped(model.ema)),),
        frozen=frozen or {},
        capabilities=(
            example_generation(generate, example, {**conditions, **against}),
            *((denoiser,) if denoiser is not None else ()),
            *density,
        ),
    )
    return finish(task, model)


def in_range(task: Task, model: Any) -> Task:
    """Return the task with its generated images clipped to [-1, 1]."""
    return task.having(latent_diffusion.then(task.get(Transform), lambda params, context, x: jnp.clip(x, -1, 1)))


def check_guide(folder: str, model: Any, denoiser: Denoiser | None):
    """Raise InputError where the model of a run can't guide this one: a weaker one, or (EDM2) an unconditional one."""
    guide = load_config(paths.path(folder)).model
    fits = all(getattr(guide, name, None) == getattr(model, name, None) for name in ("image", "video", "autoencoder"))
    if (
        not fits
        or getattr(guide, "classes", None) not in (0, model.classes)
        or getattr(guide, "denoiser", None) is None
        or denoiser is None
        or guide.denoiser.frame != denoiser.frame
    ):
        raise InputError(
            f"The guide {folder} must be the run of a diffusion model with the same images, classes (or none) and kind "
            "of noise."
        )
    check_scale(folder, guide, model)


def classes_of(own: int, how: Any) -> int:
    """Return the number of classes of samples: the model's own, or those of the classifier that guides it."""
    classifier = getattr(how, "classifier", "")
    return own or (getattr(load_config(paths.path(classifier)).model, "classes", 0) if classifier else 0)


def check_classifier(folder: str, model: Any):
    """Raise InputError where a run is not a classifier that can guide this model."""
    found = load_config(paths.path(folder)).model
    if model.autoencoder:
        raise InputError(
            "A classifier guides images, and this model generates latents of an autoencoder: leave the classifier out."
        )
    if not getattr(found, "noisy", False) or found.image != model.image:
        image = "x".join(map(str, model.image))
        raise InputError(
            f"The classifier must be a run of `train.classifier --preset adm-classifier` with {image} images: "
            f"{folder} is a run of {describe(found)}."
        )
    if model.classes not in (0, found.classes):
        raise InputError(f"The classifier {folder} has {found.classes} classes, the model {model.classes}.")


def shape_of(model: Any) -> tuple[int, ...]:
    """Return the shape of the denoiser's input: images or videos, or latents of model.autoencoder."""
    pixels = pixels_of(model)
    return autoencoder_of(model.autoencoder, pixels).shape if model.autoencoder else pixels


def check_model(model: Any):
    """Raise InputError for settings that are invalid with every method, and where images don't fit the net."""
    check_settings(model, "model.")
    model.net.check()
    at_least(1, model__image=min(model.image))
    try:
        jax.eval_shape(model.init, jax.random.key(0))
    except InputError as error:
        if not model.autoencoder:
            raise
        size = "x".join(map(str, model.shape))
        way = " Latent vectors fit --model.net.kind dit --model.net.patch 1." if model.shape[0] == 1 else ""
        raise InputError(f"{error} The inputs here are latents of {model.autoencoder}, {size}.{way}") from error
