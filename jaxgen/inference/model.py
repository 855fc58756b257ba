"""Trained models as objects: `jaxgen.load("enlarge-x4").restore(image)`.

Images go in as NumPy or JAX arrays or Pillow images and come out as the same: u8 and u16 from 0 to their largest value,
floats in [-1, 1]; [h w], [h w c] or a batch [b h w c] (user_images.py). Each method compiles once for each size. The
answers are those of the commands. Training uses the functions below this: `model.task` and `model.nets` are theirs.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.capabilities import Classifier, Codec, Degradation, Denoiser, Density, Latent, Transform
from jaxgen.core.errors import InputError, at_least, choose
from jaxgen.core.task import Task
from jaxgen.core.types import averaged
from jaxgen.data.transforms import clip_to_size
from jaxgen.inference import restoration, sampling, video_restoration
from jaxgen.inference.image_translation import Translator, number_of
from jaxgen.inference.latent_space import Entry, conditions, lerp, slerp
from jaxgen.inference.opened import Labels, Opened, in_words, text_of
from jaxgen.inference.stylization import StyleRequest, named
from jaxgen.inference.stylization import Trained as Painter
from jaxgen.inference.texts import text_input, text_tokens
from jaxgen.inference.tiled_restoration import OVERLAP, TILE, enlarged_alpha, restored_lines
from jaxgen.inference.tiled_stylization import stylized, tile_of
from jaxgen.inference.user_images import FORMS, Form, formed, like, masks_of, taken
from jaxgen.inference.video_prediction import continued, next_frames
from jaxgen.inference.video_restoration import restored_frames
from jaxgen.media import tiling
from jaxgen.media.photo import quantised
from jaxgen.models.translation.adain import AdaIN
from jaxgen.models.translation.fast_style import FastStyle
from jaxgen.tasks.style_transfer import fitted, three_channels

BATCH, MEMORY = 64, 4 * 2**30  # samples at a time, bytes of an image that is stylized whole
VERBS = {  # methods, and what a model with them can do
    "sample": "draw samples",
    "interpolate": "walk between samples",
    "restore": "restore images",
    "translate": "translate images",
    "predict": "predict the next frames of clips",
    "stylize": "paint in styles",
    "encode": "encode examples into latents",
    "decode": "decode latents",
    "log_prob": "give likelihoods",
    "classify": "classify images",
}


class Model(Opened):
    """A trained model. `can` names the methods that it has; the others raise InputError."""

    def __repr__(self) -> str:
        about = "" if self.opened is None else f" ({self.opened.run.preset}, step {self.opened.step})"
        return f"<jaxgen model {self.name}{about}: {', '.join(self.can)}>"

    @functools.cached_property
    def can(self) -> tuple[str, ...]:
        """The methods that the model has."""
        if self.opened is None:
            return ("restore",)
        return abilities(self.opened.task, self.opened.run.model)

    @in_words
    def sample(
        self,
        count: int = 16,
        seed: int = 0,
        *,
        labels: Labels = None,
        text: str | Sequence[str] = (),
        negative: str | None = None,
        truncation: float = 1.0,
        batch: int | None = None,
        given: Mapping[str, np.ndarray] | None = None,
        form: Form = "float",
    ) -> Any:
        """Return samples f32[count ...], those that `python -m jaxgen generate --seed` draws.

        Sample i depends on the seed and on i only, not on count and batch.
        labels:     classes in turn, by name or number; None: all classes
        text:       what samples are of, in turn, of a model of texts
        negative:   a text that they shall not be like, with guidance
        truncation: psi in [0, 1]: less varied samples below 1
        batch:      samples drawn at a time; None: as many as needed, at most 64
        given:      other arrays [count ...] that samples are conditioned on
        form:       of images: float in [-1, 1], uint8, or pil for a list of Pillow images
        """
        self._check("sample")
        choose(form, FORMS, "form")
        task, opened = self.task, self.opened
        at_least(1, count=count, batch=batch)
        size = batch or min(BATCH, 1 << (count - 1).bit_length())
        check_seed(seed)
        sampling.check_samples(task, count, f"count={count}")
        sampling.check_truncation(task, truncation)
        names, needed = sampling.conditions_of(task), dict(given or {})
        if text or negative is not None:
            written = text_tokens(task, [text] if isinstance(text, str) else text, negative)
            needed |= {name: np.resize(tokens, (count, tokens.shape[1])) for name, tokens in written.items()}
        if missing := set(names) - {"label", *needed}:
            how = "give one" if text_input(task) else "give them in `given`"
            raise InputError(f"{self.name} draws samples of its {' and '.join(sorted(missing))}: {how}.")
        if "label" not in needed and (classes := sampling.classes_of(task, text_of(labels))):
            needed |= sampling.in_turn(classes, count)[0]
        if truncation < 1:
            needed["truncation"] = np.full(count, truncation, np.float32)
        draw = self._once(("sample", size), lambda: sampling.make_sampler(task, opened.mesh, size))
        made = self._with_frozen(lambda opened: draw(opened.state, opened.frozen, seed, count, needed))
        return formed(made, sampling.sample_spec(task), form)

    @in_words
    def interpolate(
        self,
        first: int = 0,
        second: int = 1,
        frames: int = 8,
        seed: int = 0,
        *,
        labels: Labels = None,
        form: Form = "float",
    ) -> Any:
        """Return `frames` images from sample number `first` of a seed to number `second`, f32[frames h w c].

        The way is a straight line in w, or a great circle in z, as of `python -m jaxgen interpolate`.
        """
        self._check("interpolate")
        choose(form, FORMS, "form")
        at_least(2, frames=frames)
        at_least(0, first=first, second=second)
        check_seed(seed)
        task, latent = self.task, self.task.get(Latent)
        classes = sampling.classes_of(task, text_of(labels))[:1]

        def walk(opened: Any) -> np.ndarray:
            entry = self._once("interpolate", lambda: Entry(opened, 8))
            z = entry.draw(seed, [first, second], conditions(2, classes))
            ends = entry.map(z, conditions(2, classes)) if latent.linear else z
            between = lerp if latent.linear else slerp
            way = np.concatenate([between(ends[:1], ends[1:], t) for t in np.linspace(0, 1, frames)])
            given = conditions(frames, classes)
            return entry.paint(way if latent.linear else entry.map(way, given), given)

        return formed(self._with_frozen(walk), sampling.sample_spec(task), form)

    @in_words
    def restore(
        self,
        image: Any,
        *,
        scale: float | None = None,
        sigma: float | None = None,
        mask: Any = None,
        ensemble: bool = False,
        tile: int | None = None,
        overlap: int = OVERLAP,
        seed: int = 0,
        answer: int = 0,
        steps: int | None = None,
    ) -> Any:
        """Return the restored image, or images: what `python -m jaxgen restore` writes. Large ones go by tiles.

        A model of videos takes the frames of a clip, [t h w c].

        scale:        the factor, of models that enlarge; None: that of the model's training
        sigma:        standard deviation of the noise, of 255, for models that take it
        mask:         white where the image is filled in, [h w] or [h w 1], bool or an image; one for all, or a list
        ensemble:     the mean over eight rotations and reflections: better and slower
        tile:         side of the tiles in pixels; 0: the whole image at once; None: 384, of videos 192
        seed, answer: answer number 0, 1, ... of a stochastic model
        steps:        of the deep image prior
        """
        self._check("restore")
        tiling.check(tile or 0, overlap)
        check_seed(seed)
        at_least(0, answer=answer)
        given = taken(image)
        masks = masks_of(mask, given.photos) if mask is not None else [None] * len(given.photos)

        def restored(opened: Any) -> list[tuple[np.ndarray, np.ndarray | None]]:
            model = self._once(("restore", scale, steps), lambda: self._restorer(scale, steps))
            model.check(sigma, mask, ensemble=ensemble)
            one_answer(self.name, model.transform, answer)
            alphas = [None if x.alpha is None else enlarged_alpha(x.alpha, model.scale) for x in given.photos]
            if model.transform.source.kind == "video":
                clip = (photo.pixels for photo in given.photos)
                made = restored_frames(
                    model, clip, video_restoration.TILE if tile is None else tile, overlap, seed=seed
                )
                return list(zip(made, alphas, strict=True))
            found, side = [], TILE if tile is None else tile
            for photo, hidden, alpha in zip(given.photos, masks, alphas, strict=True):
                known = {} if sigma is None else {"sigma": np.float32(sigma)}
                known |= {} if hidden is None else {"mask": hidden}
                x = photo.pixels if hidden is None else np.where(hidden > 0, 0, photo.pixels)
                lines = restored_lines(model, x, known, side, overlap, ensemble, seed, answer)
                found.append((np.concatenate(list(lines)), alpha))
            return found

        return given.back(self._with_frozen(restored))

    @in_words
    def translate(
        self, image: Any, to: str | int | None = None, *, side: int | None = None, seed: int = 0, answer: int = 0
    ) -> Any:
        """Return the image, or images, in another domain: what `python -m jaxgen translate` writes.

        to:           the domain, by name or number; None: the one that the model was trained to make
        side:         resize first, to a shorter side of so many pixels
        seed, answer: answer number 0, 1, ... of a stochastic model
        """
        self._check("translate")
        at_least(1, side=side)
        check_seed(seed)
        given, transform = taken(image), self.task.get(Transform)
        number = number_of(transform.inputs["to"], None if to is None else str(to))
        one_answer(self.name, transform, answer)

        def translated(opened: Any) -> list[tuple[np.ndarray, None]]:
            work = self._once("translate", lambda: Translator(transform, averaged(opened.state, opened.frozen), 0))
            work.to, work.seed = number, seed
            ready = [work.prepared(photo, "the image", side) for photo in given.photos]
            return [(work.translated(x, answer), None) for x in ready]

        return given.back(self._with_frozen(translated))

    @in_words
    def predict(self, clip: Any, frames: int | None = None, *, seed: int = 0) -> Any:
        """Return the frames after those of a clip: what `python -m jaxgen predict` appends to it.

        clip:   at least as many frames as the model sees, [t h w c] u8 or floats, cropped to the model's shape
        frames: how many; None: as many as the model predicts at once
        seed:   of a model with several answers
        """
        self._check("predict")
        at_least(1, frames=frames)
        check_seed(seed)
        transform, given = self.task.get(Transform), taken(clip)
        count, height, width, channels = map(int, transform.source.shape)
        if len(given.photos) < count:
            raise InputError(f"{self.name} predicts from {count} frames, not from {len(given.photos)}.")
        past = np.stack([photo.pixels for photo in given.photos[-count:]])
        if past.shape[1:] != (height, width, channels):
            past = clip_to_size(quantised(past, 8), (height, width, channels), "center") / np.float32(127.5) - 1
        frames = frames or int(transform.outputs[transform.main].shape[0])

        def continuation(opened: Any) -> list[tuple[np.ndarray, None]]:
            step = self._once("predict", lambda: next_frames(transform))
            nets = averaged(opened.state, opened.frozen)
            return [(x, None) for x in continued(step, nets, past, frames, jax.random.key(seed))]

        return given.back(self._with_frozen(continuation))

    @in_words
    def stylize(
        self,
        image: Any,
        style: Any = (),
        *,
        weights: Sequence[float] = (),
        strength: float = 1.0,
        colours: Literal["style", "content", "luma"] = "style",
        size: int = 512,
        tile: int | None = None,
        overlap: int = 64,
    ) -> Any:
        """Return the image, or images, in a style: what `python -m jaxgen stylize` writes, in colour.

        style:    names of styles that the model was trained on, or for adain images; one, or a list with `weights`
        strength: from 0 (the image itself) to 1
        colours:  of the style, of the content, or luma: the content's chroma is kept
        size:     longer side of style images, larger ones are reduced; 0: no limit
        tile:     side of the tiles; 0: the whole image at once; None: 0 if that takes less than 4 GiB
        """
        self._check("stylize")
        tiling.check(TILE if tile is None else tile, overlap)
        choose(colours, ("style", "content", "luma"), "colours")
        if not 0 <= strength <= 1:
            raise InputError(f"strength must be from 0 to 1, not {strength:g}.")
        given, transform = taken(image), self.task.get(Transform)
        request = StyleRequest((), tuple(weights), size, strength)
        if "style" in transform.inputs:
            styles = [photo.pixels for photo in taken(style).photos]
            request = request._replace(styles=tuple(map(str, range(len(styles)))))
            images = [fitted(three_channels(x), size) for x in styles]
        else:
            names = (style,) if isinstance(style, str) else tuple(style)
            request, images = named(request._replace(styles=names), transform.inputs["to"].names, self.name), []
        request.check()

        def painted(opened: Any) -> list[tuple[np.ndarray, np.ndarray | None]]:
            nets = averaged(opened.state, opened.frozen)
            painter = self._once("stylize", lambda: Painter(self.name, request, transform, *nets, None, images))
            painter.request, painter.styles = request, images
            found = []
            for photo in given.photos:
                x = three_channels(photo.pixels)
                side = tile_of(painter, x, MEMORY) if tile is None else tile
                found.append((stylized(painter, x, None, colours, side, overlap), photo.alpha))
            return found

        return given.back(self._with_frozen(painted))

    @in_words
    def encode(self, images: Any, labels: Labels = None) -> Any:
        """Return the latents [b ...] of images of the model's size; Pillow images are brought to it as in training."""
        self._check("encode")
        batch = self._batch(images, labels)
        return like(images, self._run("encode", self.task.get(Codec).encode, batch))

    @in_words
    def decode(self, latents: Any, labels: Labels = None, *, form: Form = "float") -> Any:
        """Return the images f32[b h w c] of latents [b ...] as `encode` returns them."""
        self._check("decode")
        choose(form, FORMS, "form")
        codec, latents_ = self.task.get(Codec), jnp.asarray(latents)
        given = self._labels(labels, len(latents_)) if "label" in codec.conditions else {}
        assert codec.decode is not None
        made = self._run("decode", codec.decode, latents_, given)
        spec = next(iter(self.task.example.values()))
        return like(latents, made) if form == "float" else formed(np.asarray(made), spec, form)

    @in_words
    def log_prob(self, images: Any, labels: Labels = None, *, samples: int = 16, seed: int = 0) -> Any:
        """Return log p(x) in nats, f32[b], of images of the model's size, estimated with so many samples of latents."""
        self._check("log_prob")
        at_least(1, samples=samples)
        check_seed(seed)
        batch, density = self._batch(images, labels), self.task.get(Density)
        count = len(next(iter(batch.values())))
        keys = rng.sample_keys(rng.fold(jax.random.key(seed), "scores"), jnp.arange(count))
        f = lambda params, context, batch, keys: density.log_prob(params, context, batch, keys, samples)  # noqa: E731
        return like(images, self._run(("log_prob", samples), f, batch, keys))

    @in_words
    def classify(self, images: Any, *, features: bool = False) -> Any:
        """Return the class logits f32[b k] of images of the model's size.

        features: return a dict of the logits and of the features [b ...] by name instead
        """
        self._check("classify")
        made = self._run("classify", self.task.get(Classifier).classify, self._batch(images, None, labelled=False))
        return like(images, dict(made) if features else made["logits"])

    def _check(self, method: str):
        """Raise InputError where the model does not have a method."""
        if method not in self.can:
            does = ", ".join(f"{VERBS[name]} ({name})" for name in self.can)
            raise InputError(f"{self.name} can't {VERBS[method]}" + (f". It can {does}." if does else "."))

    def _restorer(self, scale: float | None, steps: int | None) -> restoration.Model:
        if self.opened is None or steps is not None:
            return restoration.open_model(self.name, "", scale, steps)
        task, model = self.opened.task, self.opened.run.model
        found = restoration.restorer_of(task, model, self.name)
        return restoration.at_scale(found, *averaged(self.opened.state, self.opened.frozen), self.name, scale)


def abilities(task: Task, model: Any) -> tuple[str, ...]:
    """Return the methods that a trained model has, by its task and its settings."""
    transform, codec = task.find(Transform), task.find(Codec)
    paints = isinstance(model, FastStyle | AdaIN)
    subject = transform.subject if transform else ""
    has = {
        "sample": sampling.draws_samples(task) and transform and generates(transform),
        "interpolate": task.find(Latent) and "image" in task.example,
        "restore": (subject and task.find(Degradation) and "region" not in (transform.inputs if transform else ()))
        or (task.find(Denoiser) and fills(task, model)),
        "translate": subject == "source" and transform and not transform.conditions and not paints,
        "predict": subject == "past",
        "stylize": paints,
        "encode": codec,
        "decode": codec and codec.decode,
        "log_prob": task.find(Density),
        "classify": task.find(Classifier),
    }
    return tuple(name for name, able in has.items() if able)


def check_seed(seed: int):
    """Raise InputError for a seed that is no whole number of 32 bits."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to {2**32 - 1}, not {seed!r}.")


def one_answer(name: str, transform: Transform, answer: int):
    """Raise InputError for a further answer of a model that has one."""
    if answer and not transform.stochastic:
        raise InputError(f"{name} has one answer: leave out answer.")


def generates(transform: Transform) -> bool:
    """Return whether a Transform makes samples of nothing, or of conditions: not of an example of what it makes."""
    return transform.subject not in transform.required and transform.main not in transform.required


def fills(task: Task, model: Any) -> bool:
    """Return whether a diffusion model can fill in holes."""
    try:
        restoration.restorer_of(task, model, "")
    except InputError:
        return False
    return True
