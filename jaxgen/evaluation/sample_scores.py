"""Scores of samples: what the distribution metrics say of a run's images or clips beside real ones, with the protocol.

A score's name is a statistic and an extractor: `fid_lenet`, `kid_inception`, `is_`, `pr_` (precision and recall), `dc_`
(density and coverage), `swd_pixels` (sliced Wasserstein); of clips `fvd_action_moving_shapes`, `kid_`, ... Both sides
pass through the same hands: 8 bits, the model's size, the resizer, the extractor.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.cache import cache_folder
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError, at_least, choose
from jaxgen.core.progress import tracked
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Frozen, TrainState
from jaxgen.data import RandomSubset, Source, batches, open_source, shuffled
from jaxgen.data.open import paths_of
from jaxgen.inference.sampling import conditioning_of, drawer, generator_of, pixels_of
from jaxgen.metrics.accumulate import MOMENTS, ROWS, Rows
from jaxgen.metrics.frechet import FRECHET, FRECHET_VIDEO
from jaxgen.metrics.inception_score import INCEPTION_SCORE
from jaxgen.metrics.kid import KID, kid
from jaxgen.metrics.metric import Metric, State
from jaxgen.metrics.neighbours import DENSITY_COVERAGE, PRECISION_RECALL
from jaxgen.metrics.sliced_wasserstein import sliced_wasserstein
from jaxgen.nn.colour import eight_bit
from jaxgen.pretrained.feature_extractors import OF_CLIPS, RESIZERS, Extractor, extractor
from jaxgen.runs import sharding
from jaxgen.runs.sharding import Mesh


class Statistic(NamedTuple):
    """A metric, what of the extractor's answer it reads, and which real images it compares with.

    real: "all", or as many as there are samples ("equal": what asks for neighbours among them), or "none"
    """

    metric: Metric
    output: str = "features"
    real: str = "all"


def sliced(real: Rows, generated: Rows) -> dict[str, float]:
    """Return {"sliced_wasserstein_2": ...} along the 512 lines of key 0, which is made no earlier than it is used."""
    return sliced_wasserstein(jax.random.key(0)).result(real, generated)


STATISTICS = {
    "fid": Statistic(FRECHET),
    "fvd": Statistic(FRECHET_VIDEO),
    "kid": Statistic(KID),
    "is": Statistic(INCEPTION_SCORE, "logits", real="none"),
    "pr": Statistic(PRECISION_RECALL, real="equal"),
    "dc": Statistic(DENSITY_COVERAGE, real="equal"),
    "swd": Statistic(Metric(*ROWS, sliced), real="equal"),
}
States = dict[tuple[str, str], State]  # by accumulator, "moments" or "rows", and output


def is_score(name: str) -> bool:
    """Return whether a metric's name is that of a score."""
    return name.partition("_")[0] in STATISTICS and "_" in name


def extract(extractor: Extractor, resizer: str, variables, x: Array) -> dict[str, Array]:
    """Return an extractor's answer to images f32[b h w c], or clips f32[b t h w c], in [-1, 1].

    They are rounded to 8 bits as if they had been saved.
    """
    x = eight_bit(x)
    height, width, channels = extractor.image
    if channels and channels != x.shape[-1]:
        if x.shape[-1] != 1 and channels != 1:
            raise InputError(f"{extractor.name} sees {channels} channels; the images have {x.shape[-1]}.")
        # Grey becomes colour; colour becomes ITU-R 601's luma, as in the data pipeline.
        weights = jnp.asarray([0.299, 0.587, 0.114])
        x = jnp.repeat(x, channels, -1) if x.shape[-1] == 1 else (x @ weights)[..., None]
    if height and (height, width) != x.shape[-3:-1]:
        frames = RESIZERS[resizer](x.reshape(-1, *x.shape[-3:]), (height, width))
        x = frames.reshape(*x.shape[:-3], *frames.shape[1:])
    with jax.default_matmul_precision("highest"):  # on GPUs f32 would be TF32, on TPUs bf16
        return extractor.apply(variables, x)


def check_kind(statistics: Iterable[str], extractor: Extractor, spec: ArraySpec):
    """Raise InputError where an extractor sees no samples of this kind, or a statistic is not of them."""
    name = extractor.name
    if spec.kind not in ("image", extractor.kind):
        clips = ", ".join(f"fvd_{one}" for one in OF_CLIPS)
        raise InputError(f"{name} sees images, the samples are clips: ask for {clips}, or fvd_RUN of an action-net.")
    if spec.kind != extractor.kind:
        raise InputError(f"{name} sees clips, and the samples are images: ask for another, such as fid_random.")
    own, other, what = ("fid", "fvd", "images") if spec.kind == "image" else ("fvd", "fid", "clips")
    if other in statistics:
        raise InputError(f"{other}_{name} is no score of {what}: ask for {own}_{name}.")


class Scores:
    """The scores of one extractor: what it has of the real images, and what it takes in of others.

    count:    samples that are scored
    split:    whose real images they are compared with; all of them, or the first `real`
    resizer:  "clean", antialiased bicubic, or "legacy", TensorFlow 1's bilinear inside FID's own graph
    subset:   images in each random subset of KID
    bar:      show a progress bar on a terminal
    """

    def __init__(
        self,
        run: Run,
        task: Task,
        mesh: Mesh,
        names: Sequence[str],
        extractor: Extractor,
        count: int,
        split: str,
        real: int | None = None,
        resizer: str = "clean",
        cache: bool = True,
        subset: int = 1000,
        bar: bool = False,
    ):
        at_least(1, count=count, real=real)
        at_least(2, subset=subset)
        self.run, self.task, self.mesh, self.extractor = run, task, mesh, extractor
        self.statistics = {name: STATISTICS[choose(name, STATISTICS, "metric")] for name in names}
        self.count, self.split, self.resizer, self.cache = count, split, choose(resizer, RESIZERS, "resizer"), cache
        if "kid" in self.statistics:
            measured = KID._replace(result=partial(kid, size=subset))
            self.statistics["kid"] = self.statistics["kid"]._replace(metric=measured)
        self.array, self.spec = pixels_of(task)
        self.subset, self.image = subset, self.spec.shape
        check_kind(self.statistics, extractor, self.spec)
        self.batch = run.batch + -run.batch % mesh.size
        self.source = open_source(run.data.at(split), task.example)
        self.real_count = min(real or len(self.source), len(self.source))
        self.variables = jax.device_put(extractor.variables, sharding.replicated(mesh))
        self.extract = jax.jit(partial(extract, extractor, resizer), out_shardings=sharding.replicated(mesh))
        shape = jax.ShapeDtypeStruct((1, *self.image), jnp.float32)
        self.outputs = jax.eval_shape(partial(extract, extractor, resizer), extractor.variables, shape)
        for name, statistic in self.statistics.items():
            if statistic.output not in self.outputs:
                raise InputError(f"{name}_{extractor.name} needs class probabilities, which {extractor.name} has not.")
            self.check_count(f"{name}_{extractor.name}", statistic)
        self.needed = {(kind(s.metric), s.output) for s in self.statistics.values()}
        self.updates = {"moments": jax.jit(MOMENTS.update), "rows": jax.jit(ROWS.update, donate_argnums=0)}
        self.bar = bar
        self.real_states: States | None = None
        self.real_used: dict[str, int] = {}
        self.streams = {}

    def check_count(self, name: str, statistic: Statistic):
        """Raise InputError where too few images are asked for, before any is drawn."""
        which, features = name.partition("_")[0], self.outputs["features"].shape[1]
        low = {"fid": features + 1, "fvd": features + 1, "kid": self.subset, "is": 10, "pr": 4, "dc": 6, "swd": 1}[
            which
        ]
        few = [f"{self.count} samples (raise --count)"] if self.count < low else []
        if statistic.real != "none" and self.real_count < low:
            more = "raise --real" if self.real_count < len(self.source) else "choose a larger --split"
            few.append(f"{self.real_count} real images of {self.split} ({more})")
        if few:
            kid = "; or ask for kid with a small --subset"
            hint = {"kid": f"; or lower --subset {self.subset}", "fid": kid, "fvd": kid}
            text = f"{name} needs at least {low} images on each side, but there are only {' and '.join(few)}"
            raise InputError(f"{text}{hint.get(which, '')}.")

    def empty(self, count: int) -> States:
        width = {output: shape.shape[1] for output, shape in self.outputs.items()}
        made = {
            (which, output): MOMENTS.empty(width[output]) if which == "moments" else ROWS.empty(count, width[output])
            for which, output in self.needed
        }
        return jax.device_put(made, sharding.replicated(self.mesh))

    def take_in(self, images: Iterable[Array | np.ndarray], count: int) -> States:
        """Return the states of the first `count` of batches of images f32[b h w c] in [-1, 1]."""
        states, seen, rows = self.empty(count), 0, sharding.batched(self.mesh)
        text, total = f"{self.extractor.name}, {count:,} images", -(-count // self.batch)
        for x in tracked(images, text, total) if self.bar else images:
            new = min(len(x), count - seen)
            if isinstance(x, np.ndarray):  # a ragged last batch is filled up: nothing is compiled twice, any mesh fits
                fill = np.zeros((self.batch - len(x), *x.shape[1:]), x.dtype)
                x = sharding.put_whole(rows, np.concatenate([x, fill]))
            if not bool(jnp.isfinite(x).all()):
                raise InputError("The images to be scored hold NaN or infinity.")
            valid = np.arange(len(x)) < new
            out = self.extract(self.variables, x)
            for which, output in self.needed:
                states[which, output] = self.updates[which](states[which, output], out[output], valid)
            seen += new
        if seen < count:
            raise InputError(f"There are only {seen} images to be scored, not {count}.")
        return states

    def real_images(self, split: str, count: int) -> Iterator[np.ndarray]:
        """Yield `count` real images of a split, as the model is trained on them but for mirroring and moving."""
        source = self.source if split == self.split else open_source(self.run.data.at(split), self.task.example)
        source = source if count >= len(source) else RandomSubset(source, count)
        grey = dataclasses.replace(self.run.data, binarise="none")
        for batch in batches(source, grey, self.task.example, batch=self.batch, seed=0, train=False):
            yield batch[self.array]

    def size(self, split: str) -> int:
        """Return how many real images a split has."""
        return len(self.source if split == self.split else open_source(self.run.data.at(split), self.task.example))

    def real(self) -> States:
        """Return the real images' states, from the cache where they are in it."""
        if self.real_states is None:
            path = cache_folder() / "statistics" / f"{self.key()}.npz"
            like = self.empty(self.real_count)
            found = load_states(path, like) if self.cache else None
            # All processes compute together, or none does: their caches may differ.
            if sharding.any_process(found is None):
                found = self.take_in(self.real_images(self.split, self.real_count), self.real_count)
                if self.cache and sharding.is_first():
                    save_states(path, found)
            self.real_states = found
        return self.real_states  # pyright: ignore[reportReturnType]

    def key(self) -> str:
        """Return what the real images' statistics depend on, digested."""
        data, x = self.run.data, self.extractor
        parts = [data.source, data.dir, data.only, data.styles, data.labels, self.split, data.crop, data.skip_bad]
        parts += [fingerprint(self.source, data.source, self.array)]
        parts += [self.real_count, self.image, self.resizer, x.name, x.digest, x.image, sorted(self.needed)]
        parts += [versions(), "highest", jax.default_backend(), jax.devices()[0].device_kind]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    def compare(self, states: States) -> dict[str, float]:
        """Return {"fid_lenet": ..., ...} of the states of images beside the real ones."""
        found = {}
        for statistic in self.statistics.values():
            key = (kind(statistic.metric), statistic.output)
            args = [jax.device_get(states[key])]
            if statistic.real != "none":
                real = jax.device_get(self.real()[key])
                args.insert(0, some_rows(real, self.count) if statistic.real == "equal" else real)
            values = {SHORT.get(name, name): value for name, value in statistic.metric.result(*args).items()}
            found |= {f"{name}_{self.extractor.name}": value for name, value in values.items()}
            real = {"all": self.real_count, "equal": min(self.real_count, self.count), "none": 0}[statistic.real]
            self.real_used |= {f"{name}_{self.extractor.name}": real for name in values}
        return found

    def samples(self, state: TrainState, frozen: Frozen, seed: int, average: bool = True) -> dict[str, float]:
        """Return the scores of `count` samples of a state."""
        if average not in self.streams:
            self.streams[average] = drawer(self.task, self.mesh, self.batch, average)
        needed = conditioning_of(self.task, self.run, self.source, self.count)
        return self.compare(self.take_in(self.streams[average](state, frozen, seed, self.count, needed), self.count))

    def protocol(self, name: str) -> dict[str, Any]:
        """Return what a number of `compare` depends on, beside the samples."""
        height, width, channels = (side or own for side, own in zip(self.extractor.image, self.image[-3:], strict=True))
        return {
            "samples": self.count,
            "real": self.real_used[name],
            "data": self.run.data.source,
            **({"only": self.run.data.only} if self.run.data.only is not None else {}),
            "split": self.split,
            "image": list(self.image),
            "extractor": self.extractor.name,
            "extractor_sha256": self.extractor.digest,
            "extractor_image": [height, width, channels],
            "resizer": self.resizer,
            **({"subset": self.subset} if name.startswith("kid_") else {}),
            "backend": jax.default_backend(),
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Return the versions that a number depends on."""
    return {name: importlib.metadata.version(name) for name in ("jaxgen", "jax", "numpy")}


SHORT = {
    "inception_score": "is",
    "inception_score_std": "is_std",
    "sliced_wasserstein_2": "swd",
}


def kind(metric: Metric) -> str:
    """Return which accumulator a metric's state is."""
    return "moments" if metric.update is MOMENTS.update else "rows"


def some_rows(state: Rows, count: int) -> Rows:
    """Return `count` of the rows, drawn without regard to their order."""
    rows = np.asarray(state.rows)[: int(state.count)]
    if count >= len(rows):
        return state
    return state._replace(rows=rows[np.sort(shuffled(len(rows), 0, 0)[:count])], count=np.int32(count))


def fingerprint(source: Source, name: str, array: str = "image") -> list:
    """Return a fingerprint of a source's content: 32 examples, and the sizes and times of its files."""
    total = hashlib.sha256()
    for i in np.linspace(0, len(source) - 1, 32).astype(int):
        total.update(np.ascontiguousarray(np.asarray(source[int(i)][array])).tobytes())
    files = []
    for path in paths_of(name.partition(":")[2]) if ":" in name and not name.startswith("tfds:") else []:
        for folder, _, names in os.walk(path) if path.is_dir() else [(path.parent, [], [path.name])]:
            for file in names:
                with suppress(OSError):  # a link to nothing
                    files.append(os.stat(Path(folder, file)))
    return [
        len(source),
        total.hexdigest(),
        len(files),
        sum(f.st_size for f in files),
        max((f.st_mtime for f in files), default=0),
    ]


def save_states(path: Path, states: States):
    """Write states; a file of that name is whole at every moment. A full disk only costs the cache."""
    part = path.with_suffix(f".{os.getpid()}.part")
    arrays = {
        f"{which}/{output}/{i}": x for (which, output), s in states.items() for i, x in enumerate(jax.device_get(s))
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)


def load_states(path: Path, like: States) -> States | None:
    """Return the states that `save_states` wrote, or None where there is no file of this shape."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            found = {
                (which, output): type(s)(*(file[f"{which}/{output}/{i}"] for i in range(len(s))))
                for (which, output), s in like.items()
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, found, like)
    return found if all(jax.tree.leaves(same)) else None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval by Student's t; 0 for one value."""
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return float(np.mean(values)), 0.0
    return float(np.mean(values)), float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))


def group(names: Iterable[str]) -> dict[str, list[str]]:
    """Return {extractor: [statistic, ...]} of scores' names."""
    groups: dict[str, list[str]] = {}
    for name in names:
        statistic, _, which = name.partition("_")
        choose(statistic, STATISTICS, "metric")
        groups.setdefault(which, []).append(statistic)
    return groups


def open_scores(
    run: Run,
    task: Task,
    mesh: Mesh,
    names: Iterable[str],
    count: int,
    split: str,
    inception: Path | None = None,
    **more,
) -> list[Scores]:
    """Return the scores asked for by name, one an extractor. Raises InputError for what can't be computed."""
    generator_of(task)
    return [
        Scores(run, task, mesh, statistics, extractor(name, inception), count, split, **more)
        for name, statistics in group(names).items()
    ]
