"""The functions of a task's capabilities with plain arguments, for tests that call them directly."""

from collections.abc import Callable
from typing import Any

from jaxgen.core.capabilities import Classifier, Codec, Denoiser, Density, Transform
from jaxgen.core.task import Task
from jaxgen.inference.restoration import Model
from jaxgen.tasks.transforms import restoration


def generate(task: Task) -> Callable[..., Any]:
    """(params, context, keys, inputs) -> {name: [b ...]}"""
    transform = task.get(Transform)
    return lambda params, context, keys, inputs: transform.apply(params, context, inputs, keys)


def restore(task: Task) -> Callable[..., Any]:
    """(params, context, inputs, keys, scale) -> f32[b h w c]"""
    transform = task.get(Transform)
    return lambda *given, **more: transform.apply(*given, **more)["image"]


def translate(task: Task) -> Callable[..., Any]:
    """(params, context, inputs, keys, to i32[b]) -> f32[b h w c]"""
    apply = task.get(Transform).apply
    return lambda params, context, inputs, keys, to: apply(params, context, {**inputs, "to": to}, keys)["image"]


def encode(task: Task) -> Callable[..., Any]:
    return task.get(Codec).encode


def decode(task: Task) -> Callable[..., Any]:
    found = task.get(Codec).decode
    assert found is not None
    return found


def log_prob(task: Task) -> Callable[..., Any]:
    return task.get(Density).log_prob


def denoiser(task: Task) -> Denoiser:
    return task.get(Denoiser)


def classify(task: Task) -> Callable[..., Any]:
    """(params, context, images) -> {"logits": ..., feature: ...}"""
    found = task.get(Classifier).classify
    return lambda params, context, image: found(params, context, {"image": image})


def restoration_model(restore: Callable, name: str = "model", degrade: Callable = lambda *_: {}, **more: Any) -> Model:
    """Return the Model that restores by a function without nets, (params, context, inputs, keys, scale) -> images."""
    transform, degradation = restoration(degrade, restore, **more)
    return Model(transform, degradation.degrade, {}, None, 1.0, name)
