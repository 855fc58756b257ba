"""What a run is: frozen dataclasses, and which of their values can't be right."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from jaxgen.core import posthoc_ema
from jaxgen.core.errors import InputError, at_least

M = TypeVar("M")


@dataclass(frozen=True)
class Data:
    """Where the examples come from and what is done to each one."""

    source: str = "digits"  # digits | shapes | tfds:NAME | folder:, idx:, npz: or paired:PATH | unpaired:PATH_A,PATH_B
    dir: str | None = None  # where prepared TFDS sets live; unset: TFDS's own default
    split: str = "train"  # which part of the source; tfds: takes slices such as train[:90%] too
    only: str | None = None  # labels whose examples are kept, such as 0-8 or 0,2; unset: all
    # what a model that translates starts from, made of the images; unpaired: of PATH_A's; paired: no need
    pair: Literal["none", "edges", "grey", "mask", "small"] = "none"
    # none: squash; else cover, cut; area: 8 to 100 % of it; patch: pixels as they are; jitter: squash to 286/256, cut
    crop: Literal["none", "center", "random", "area", "patch", "jitter"] = "center"
    shift: int = 0  # pixels by which an image is moved at most, up, down or to a side, black behind it
    flip: bool = False  # mirror left to right, half of the time
    turn: bool = False  # turn a square image by 0, 90, 180 or 270 degrees
    # to black and white: from half grey on; drawn by the grey, once or anew each epoch
    binarise: Literal["none", "threshold", "fixed", "dynamic"] = "none"
    skip_bad: bool = False  # leave unreadable images out instead of stopping
    threads: int = 4  # threads that read and transform
    prefetch: int = 2  # batches kept ready ahead of the step

    @property
    def making(self) -> str:
        """What sources are made into: nothing where every image comes with its own."""
        return "none" if self.source.startswith("paired:") else self.pair

    def at(self, split: str) -> "Data":
        """Return the same data's other split."""
        return dataclasses.replace(self, split=split)


@dataclass(frozen=True)
class Optim:
    """What is done to every learner's optimizer."""

    # from the model's rate down to 0 at the last step; half: linearly, from the middle on
    schedule: Literal["constant", "cosine", "linear", "half"] = "constant"
    warmup: int = 0  # steps over which the rate rises from 0 first
    clip: float = 0.0  # largest norm of a learner's gradient; 0: no limit
    ema: float | None = None  # decay of the moving averages, less in the first steps; unset: the model's own; 0: none
    ema_widths: tuple[float, ...] = ()  # sigma_rel, such as 0.05 0.1, of averages of which any other is made afterwards


@dataclass(frozen=True)
class Compute:
    """How a step is computed."""

    precision: Literal["f32", "bf16"] = "f32"  # of the nets' arithmetic; parameters stay f32
    accumulate: int = 1  # parts of a batch whose gradients are averaged before an update
    remat: bool = False  # keep convolutions and matrix products only, compute the rest again: less memory
    steps_per_call: int = 1  # steps in one dispatch


@dataclass(frozen=True)
class Mesh:
    """Which devices share the work, and how. The batch is cut over data x fsdp, the parameters over fsdp."""

    data: int = 0  # 0: all devices that fsdp leaves
    fsdp: int = 1  # parts that parameters, moments and averages are cut into
    coordinator: str | None = None  # HOST:PORT of process 0; unset: found from SLURM, Open MPI or the TPU pod
    num_processes: int | None = None  # with coordinator
    process_id: int | None = None  # with coordinator; 0 writes the files


@dataclass(frozen=True)
class Log:
    """What is shown, and how often, in steps."""

    every: int = 100  # a line of metrics, averaged since the last
    samples: int = 1000  # a grid of samples; 0: never
    count: int = 64  # images in the grid


@dataclass(frozen=True)
class Save:
    """Checkpoints."""

    every: int = 1000  # steps
    keep: int = 2  # the newest ones
    averages: int = 1000  # steps between the averages that are kept, all of them, for optim.ema_widths


@dataclass(frozen=True)
class Eval:
    """What is measured on held-out data while training."""

    every: int = 0  # steps; 0: never
    split: str = "test"  # of the same source
    batches: int = 4  # how many of them; 0: all
    # loss (of every phase), accuracy, nll_K, reconstruction_psnr, psnr_rgb, ..., or a score of samples: fid_lenet, ...
    metrics: tuple[str, ...] = ("loss",)
    count: int = 10_000  # samples in a score


@dataclass(frozen=True)
class Run(Generic[M]):
    """One training run."""

    model: M
    preset: str = ""  # whose settings the others start from
    steps: int = 1000  # rounds of the training game
    batch: int = 64  # examples that a phase sees at a time, over all devices
    seed: int = 0  # of weights, noise and the order of the data
    out: str | None = None  # the run's folder; unset: runs/<preset>
    start_from: str | None = None  # the folder of another run, with whose weights this one begins, those that fit
    data: Data = field(default_factory=Data)
    optim: Optim = field(default_factory=Optim)
    compute: Compute = field(default_factory=Compute)
    mesh: Mesh = field(default_factory=Mesh)
    log: Log = field(default_factory=Log)
    save: Save = field(default_factory=Save)
    eval: Eval = field(default_factory=Eval)

    @property
    def folder(self) -> Path:
        return Path(self.out or f"runs/{self.preset}")


@dataclass(frozen=True)
class Preset(Generic[M]):
    """A row of the zoo: a run worth repeating, and the same in tiny; its published results are in evaluation/."""

    run: Run[M]
    tiny: Run[M]
    parameters: int  # of all nets at full size


def validate(run: Run):
    """Raise InputError for settings that can't be right, alone or together; no data are opened."""
    at_least(1, steps=run.steps, batch=run.batch, data__threads=run.data.threads, data__prefetch=run.data.prefetch)
    at_least(1, compute__accumulate=run.compute.accumulate, compute__steps_per_call=run.compute.steps_per_call)
    at_least(
        1, log__every=run.log.every, log__count=run.log.count, save__every=run.save.every, save__keep=run.save.keep
    )
    at_least(1, save__averages=run.save.averages)
    at_least(0, seed=run.seed, log__samples=run.log.samples, eval__every=run.eval.every, mesh__data=run.mesh.data)
    at_least(0, eval__batches=run.eval.batches, data__shift=run.data.shift)
    at_least(1, eval__count=run.eval.count, mesh__fsdp=run.mesh.fsdp)
    at_least(0, optim__warmup=run.optim.warmup, optim__clip=run.optim.clip, optim__ema=run.optim.ema)
    if run.optim.ema is not None and run.optim.ema >= 1:
        raise InputError(f"optim.ema must be below 1, not {run.optim.ema}.")
    if run.optim.ema is not None and run.optim.ema_widths:
        raise InputError("optim.ema and optim.ema_widths are two ways to average: give one of them.")
    for width in run.optim.ema_widths:
        posthoc_ema.check_width(width, "optim.ema_widths")
    if len(set(run.optim.ema_widths)) < len(run.optim.ema_widths):
        raise InputError("optim.ema_widths must differ from each other.")
    if run.start_from == "":
        raise InputError("start_from is empty: name the folder of a run, or leave it out.")
    if run.seed >= 2**32:
        raise InputError(f"seed must be below 2**32, not {run.seed}.")
    if run.optim.warmup > run.steps:
        raise InputError(f"optim.warmup is {run.optim.warmup} steps, more than the run's {run.steps}: give fewer.")
    if run.batch % run.compute.accumulate:
        raise InputError(f"A batch of {run.batch} can't be cut into compute.accumulate={run.compute.accumulate} parts.")
    k = run.compute.steps_per_call
    for name, value in (("steps", run.steps), ("log.every", run.log.every), ("log.samples", run.log.samples)):
        if value % k:
            raise InputError(f"{name}={value} is not a multiple of compute.steps_per_call={k}.")
    kept = (("save.averages", run.save.averages),) if run.optim.ema_widths else ()
    for name, value in (("save.every", run.save.every), ("eval.every", run.eval.every), *kept):
        if value % k:
            raise InputError(f"{name}={value} is not a multiple of compute.steps_per_call={k}.")
    if fits := getattr(run.model, "check_run", None):  # a family may refuse what is done to its examples
        fits(run)
