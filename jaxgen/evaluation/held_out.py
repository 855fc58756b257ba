"""Evaluation of a state: losses and accuracy on held-out data, and scores of samples beside real images."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import FrozenDict

from jaxgen.core import rng
from jaxgen.core.capabilities import Classifier, Codec, Degradation, Density, Transform
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError, choose
from jaxgen.core.spec import image_of, spec_of
from jaxgen.core.step import init_state
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Frozen, TrainState, averaged
from jaxgen.data import Subset, batches, check_source, evenly, open_source
from jaxgen.evaluation.net_scores import NET_METRICS, is_net_metric, net_metric
from jaxgen.evaluation.sample_scores import STATISTICS, extract, is_score, open_scores
from jaxgen.evaluation.scene_accuracy import scene_accuracy
from jaxgen.inference.previews import degraded_and_restored
from jaxgen.metrics.accumulate import MOMENTS, merge_variances, variances
from jaxgen.metrics.accuracy import ACCURACY
from jaxgen.metrics.frechet import FRECHET
from jaxgen.metrics.metric import Metric, State
from jaxgen.metrics.pairs import PAIR_METRICS, is_pair_metric, pair_metric
from jaxgen.metrics.pixels import psnr
from jaxgen.pretrained.feature_extractors import OF_CLIPS, Extractor, extractor
from jaxgen.runs import sharding
from jaxgen.runs.sharding import Mesh


def known(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return which names are measures on held-out data, and which are scores of samples. Raises InputError."""
    for name in names:
        if not is_score(name) and not measure_of(name):
            if name.startswith(LIKELIHOODS) or f"{name}_" in LIKELIHOODS:
                raise InputError(f"{name}: write nll_K or bpd_K, by K samples for each image, such as nll_5000.")
            examples = [
                *MEASURES,
                *PAIR_METRICS,
                *NET_METRICS,
                "nll_5000",
                "bpd_16",
                "rfid_lenet",
                *(f"{statistic}_lenet" for statistic in STATISTICS if statistic != "fvd"),
                *(f"fvd_{net}" for net in OF_CLIPS),
            ]
            choose(name, examples, "metric")
    return [name for name in names if measure_of(name)], [name for name in names if not measure_of(name)]


class Evaluation:
    """All the metrics of a run while it trains, under names `eval/<split>/<metric>`.

    Measures are taken on `eval.split`; scores compare samples with the images that are trained on.
    """

    def __init__(self, run: Run, task: Task, mesh: Mesh):
        measures, scores = known(run.eval.metrics)
        self.run = run
        self.held_out = HeldOut(run, task, mesh, measures) if measures else None
        how = {"count": run.eval.count, "split": run.data.split, "subset": run.eval.subset}
        self.scores = open_scores(run, task, mesh, scores, **how) if scores else []

    def __call__(self, state: TrainState, frozen: Frozen) -> dict[str, float]:
        found = {}
        if self.held_out:
            found |= {f"eval/{self.run.eval.split}/{k}": v for k, v in self.held_out(state, frozen).items()}
        for scores in self.scores:
            values = scores.samples(state, frozen, self.run.seed)
            found |= {f"eval/{self.run.data.split}/{k}": v for k, v in values.items()}
        return found

    @property
    def confusion(self) -> np.ndarray | None:
        """The last call's counts [true guessed] where accuracy was measured."""
        return self.held_out.confusion if self.held_out else None


class HeldOut:
    """The measures of a task on one split of a run's data."""

    def __init__(self, run: Run, task: Task, mesh: Mesh, names: list[str]):
        run = replace(run, batch=run.batch + -run.batch % mesh.size)  # it may have been trained on fewer devices
        self.run, self.task = run, task
        self.measures = {name: measure_of(name)(task) for name in names}  # pyright: ignore[reportOptionalCall]
        self.updates = {name: jax.jit(measure.update, donate_argnums=0) for name, measure in self.measures.items()}
        self.put, self.wait = sharding.put_batch(mesh), sharding.one_by_one(mesh)
        self.whole = sharding.replicated(mesh)
        self.source = open_source(run.data.at(run.eval.split), task.example)
        check_source(self.source, run.data, task.example)
        self.places = np.arange(len(self.source), dtype=np.int32)
        if 0 < (part := run.eval.batches * run.batch) < len(self.source):
            self.places = evenly(len(self.source), part).astype(np.int32)
            self.source = Subset(self.source, self.places)
        self.results: dict[str, State] = {}
        self.last = {}
        if (rest := len(self.source) % run.batch) and "loss" in names:
            self.last = {"loss": jax.jit(joined(self.measures["loss"].update, rest), donate_argnums=0)}

    def batches(self) -> Iterator[tuple[Mapping[str, jax.Array], jax.Array, jax.Array]]:
        """Yield each batch, its examples' indices in the whole split i32[b], and which of its rows count, bool[b].

        A ragged last batch is filled up with rows of itself.
        """
        rank, processes = jax.process_index(), jax.process_count()
        batch, data, example = self.run.batch, self.run.data, self.task.example
        stream = batches(self.source, data, example, batch=batch, seed=0, process=(rank, processes), train=False)
        local = batch // processes
        for number, some in enumerate(stream):  # all processes take equally many
            rows = len(next(iter(some.values())))
            fill = np.arange(local) % rows if rows else np.zeros(local, int)
            full = {k: some[k][fill] if rows else np.zeros((local, *some[k].shape[1:]), some[k].dtype) for k in some}
            position = number * batch + rank * local + np.arange(local)
            index = self.places[np.minimum(position, len(self.places) - 1)]
            kept = {name: full[name] for name in example}
            both = self.put({**kept, INDEX: index, VALID: np.arange(local) < rows})
            yield both, both.pop(INDEX), both.pop(VALID)
        stream.close()

    def __call__(self, state: TrainState, frozen: Frozen) -> dict[str, float]:
        self.results = {name: jax.device_put(measure.empty(), self.whole) for name, measure in self.measures.items()}
        held, left = None, len(self.source)  # from this batch on
        for given in self.batches():
            for name, update in self.updates.items():
                if name in self.last and left < self.run.batch:
                    self.results[name] = self.last[name](self.results[name], state, frozen, held, given)
                elif name in self.last and left < 2 * self.run.batch:
                    held = given
                else:
                    self.results[name] = update(self.results[name], state, frozen, *given)
                if self.wait:
                    jax.block_until_ready(self.results[name])
            left -= self.run.batch
        found: dict[str, float] = {}
        for name, measure in self.measures.items():
            found |= measure.result(jax.device_get(self.results[name]))
        # Of black and white images a likelihood says how they came about.
        how = self.run.data.binarise
        return {f"{k}_{how}" if k[:4] in LIKELIHOODS and how != "none" else k: v for k, v in found.items()}

    @property
    def confusion(self) -> np.ndarray | None:
        """The last call's counts [true guessed] where accuracy was measured."""
        return np.asarray(self.results["accuracy"]["confusion"]) if "accuracy" in self.results else None


def losses(task: Task) -> Metric:
    """Return the measure of every phase's loss, a mean over all examples, nothing updated: `<phase>_loss`.

    By the averaged weights, without dropout, with the running statistics of every net that is used after training. A
    discriminator, which is not, sees the statistics of the batch. All rows of a batch must count.
    """
    names = [f"{phase.name}_loss" for phase in task.phases]

    def empty() -> State:
        return {"count": jnp.zeros(()), **{name: jnp.zeros(()) for name in names}}

    def update(total: State, state: TrainState, frozen: Frozen, batch, index, valid) -> State:
        params, context = averaged(state, frozen)
        learners = FrozenDict(task.learners)
        context = context.replace(train=False, moments=state.optimizer_state, learners=learners)
        key = jax.random.fold_in(rng.fold(state.key, "eval"), index[0])
        play = lambda phase: phase.loss(params, context, batch, rng.fold(key, phase.stream or phase.name))  # noqa: E731
        with nn.intercept_methods(without_dropout):
            found = {name: jnp.float32(play(phase)[0]) for name, phase in zip(names, task.phases, strict=True)}
        return {name: total[name] + len(valid) * value for name, value in {"count": 1.0, **found}.items()}

    def result(total: State) -> dict[str, float]:
        return {name: float(total[name]) / float(total["count"] or np.nan) for name in names}

    return Metric(empty, update, lambda a, b: jax.tree.map(jnp.add, a, b), result)


def without_dropout(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext):
    """Call a method of a module; a dropout layer returns its input. In one place, for the losses of every model."""
    return args[0] if isinstance(context.module, nn.Dropout) and args else call(*args, **kwargs)


def joined(update: Callable[..., State], rest: int) -> Callable[..., State]:
    """Return the update for two batches as one: a whole one, or None, and the first `rest` rows of another.

    The rest alone could be too few for a loss that compares a batch's examples with each other.
    """

    def both(total: State, state: TrainState, frozen: Frozen, first, last) -> State:
        last = jax.tree.map(lambda x: x[:rest], last)
        one = last if first is None else jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)
        return update(total, state, frozen, *one)

    return both


def accuracy(task: Task) -> Metric:
    """Return the measure of a classifier's top1 and top5, by the averaged weights, over every example."""
    classify = task.get(Classifier).classify

    def update(total: State, state: TrainState, frozen: Frozen, batch, index, valid) -> State:
        logits = classify(*averaged(state, frozen), batch)["logits"]
        return ACCURACY.update(total, logits, batch["label"], valid)

    return Metric(lambda: ACCURACY.empty(task.classes), update, ACCURACY.merge, ACCURACY.result)


def likelihood(task: Task, samples: int, kind: str = "nll_") -> Metric:
    """Return the measure of -log p(x), by the averaged weights, over every example: in nats `nll_<samples>`.

    With one sample of the latents it is minus the evidence lower bound, with many it comes down to -log p(x). Of a
    diffusion model's bound or ODE the samples are of times and noise. `bpd_<samples>` is the same in bits for each
    number of the image.
    """
    density = task.get(Density)
    if kind == "bpd_" and density.continuous:
        raise InputError("bpd_ is of the 256 levels of pixels, and this model has a density of them: ask for nll_.")
    name = f"{kind}{samples}"
    shape = next(iter(spec_of(task, 1).values())).shape
    unit = math.log(2) * math.prod(shape) if kind == "bpd_" else 1.0

    def update(total: State, state: TrainState, frozen: Frozen, batch, index, valid) -> State:
        keys = rng.sample_keys(rng.fold(jax.random.key(0), "likelihood"), index)
        found = density.log_prob(*averaged(state, frozen), batch, keys, samples)
        return {"count": total["count"] + valid.sum(), name: total[name] - jnp.where(valid, found, 0).sum()}

    empty = lambda: {"count": jnp.zeros(()), name: jnp.zeros(())}  # noqa: E731
    result = lambda total: {name: float(total[name]) / float(total["count"] or np.nan) / unit}  # noqa: E731
    return Metric(empty, update, lambda a, b: jax.tree.map(jnp.add, a, b), result)


def codec_of(task: Task) -> tuple[Codec, Callable[..., Array]]:
    """Return a task's codec, and its function (nets, batch) -> reconstructions. Raises InputError without a decoder."""
    codec = task.get(Codec)
    if (decode := codec.decode) is None:
        raise InputError(Codec.lack)

    def reconstruct(nets: tuple, batch) -> Array:
        return decode(*nets, codec.encode(*nets, batch), {name: batch[name] for name in codec.conditions})

    return codec, reconstruct


def reconstruction(task: Task) -> Metric:
    """Return the measure of the mean PSNR in dB of decode(encode(x)), by the averaged weights, over every example."""
    (_, reconstruct), name = codec_of(task), next(iter(task.example))

    def update(total: State, state: TrainState, frozen: Frozen, batch, index, valid) -> State:
        made = reconstruct(averaged(state, frozen), batch)
        each = psnr(batch[name], made).reshape(len(valid), -1).mean(1)  # of a clip, the mean over its frames
        found = jnp.where(valid, each, 0)
        return {"count": total["count"] + valid.sum(), "psnr": total["psnr"] + found.sum()}

    empty = lambda: {"count": jnp.zeros(()), "psnr": jnp.zeros(())}  # noqa: E731
    result = lambda total: {"reconstruction_psnr": float(total["psnr"]) / float(total["count"] or np.nan)}  # noqa: E731
    return Metric(empty, update, lambda a, b: jax.tree.map(jnp.add, a, b), result)


def reconstructed_distance(task: Task, extractor: Extractor) -> Metric:
    """Return the measure of the Fréchet distance between decode(encode(x)) and x, over every example: `rfid_<...>`.

    By the averaged weights, the images rounded to 8 bits and resized by antialiased bicubic.
    """
    _, reconstruct = codec_of(task)
    name = extractor.name

    def empty() -> State:
        image = jax.ShapeDtypeStruct((1, *image_of(task)), jnp.float32)
        width = jax.eval_shape(partial(extract, extractor, "clean"), extractor.variables, image)["features"].shape[1]
        # The variables travel with the state: as constants they would be compiled into the program.
        return {"variables": extractor.variables, "x": MOMENTS.empty(width), "made": MOMENTS.empty(width)}

    def update(total: State, state: TrainState, frozen: Frozen, batch, index, valid) -> State:
        made = reconstruct(averaged(state, frozen), batch)
        found = {"variables": total["variables"]}
        for kind, x in (("x", batch["image"]), ("made", made)):
            features = extract(extractor, "clean", total["variables"], x)["features"]
            found[kind] = MOMENTS.update(total[kind], features, valid)
        return found

    def result(total: State) -> dict[str, float]:
        return {f"rfid_{name}": FRECHET.result(total["x"], total["made"])["fid"]}

    return Metric(empty, update, lambda a, b: {**a, **{k: MOMENTS.merge(a[k], b[k]) for k in ("x", "made")}}, result)


def paired(task: Task, name: str) -> Metric:
    """Return the measure of a metric between examples and what is made of them, by the averaged weights.

    Of a restoration model, each example degraded and restored; of a Transform whose output an example has as well, what
    is made of the example's inputs. Degradations and answers are keyed by the example's index. Raises InputError where
    the model has no such pairs, or no such metric.
    """
    transform, restores = task.find(Transform), task.find(Degradation) is not None
    if transform is None or not (restores or (transform.subject in task.example and transform.main in task.example)):
        raise InputError(f"This model restores no images and learns from no pairs: it has no {name}.")
    target = transform.main
    metric = (net_metric if is_net_metric(name) else pair_metric)(name, task.example[target])

    def update(total: State, state: TrainState, frozen: Frozen, batch, index, valid) -> State:
        true, nets = batch[target], averaged(state, frozen)
        keys = rng.sample_keys(rng.fold(jax.random.key(0), "damage"), index)
        if restores:
            _, made, _ = degraded_and_restored(task, nets, true, keys)
        else:
            inputs = {name: batch[name] for name in transform.natural}
            made = transform.apply(*nets, inputs, keys)[target]
        return metric.update(total, true, made, valid)

    return metric._replace(update=update)


def units(task: Task) -> Metric:
    """Return the measure of how many numbers of encode(x) vary with x by more than 0.01 (variance): `active_units`.

    Burda et al. 2016. Over every example, by the averaged weights.
    """
    encode = task.get(Codec).encode
    shapes = jax.eval_shape(lambda: init_state(task, jax.random.key(0), spec_of(task, 1)))
    frozen = {net: jax.eval_shape(load) for net, load in task.frozen.items()}
    width = jax.eval_shape(lambda s, f, b: encode(*averaged(s, f), b), shapes, frozen, spec_of(task, 1)).size

    def update(total: State, state: TrainState, frozen: Frozen, batch, index, valid) -> State:
        latent = encode(*averaged(state, frozen), batch).reshape(len(valid), -1)  # [b d]
        return merge_variances(total, variances(latent, valid))

    def result(total: State) -> dict[str, float]:
        return {"active_units": float((np.asarray(total["scatter"]) > 0.01 * float(total["count"] or np.nan)).sum())}

    return Metric(lambda: variances(jnp.zeros((1, width)), jnp.zeros(1, bool)), update, merge_variances, result)


LIKELIHOODS = ("nll_", "bpd_")
INDEX, VALID = "index of the example", "counts"  # beside the names of an example's arrays
MEASURES = {
    "scene_accuracy": scene_accuracy,
    "loss": losses,
    "accuracy": accuracy,
    "reconstruction_psnr": reconstruction,
    "active_units": units,
}


def measure_of(name: str) -> Callable[[Task], Metric] | None:
    """Return what makes the measure of a name: loss, nll_1, bpd_16, rfid_lenet, psnr_y_border2, ... None: none."""
    if match := re.fullmatch(r"(nll_|bpd_)([1-9]\d{0,6})", name):
        return lambda task: likelihood(task, int(match[2]), match[1])
    if name.startswith("rfid_"):
        return lambda task: reconstructed_distance(task, extractor(name.removeprefix("rfid_")))
    if is_net_metric(name) or is_pair_metric(name):
        return lambda task: paired(task, name)
    return MEASURES.get(name)
