"""The settings of a run as frozen dataclasses, and the check of their values."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from jaxgen.core import posthoc_ema
from jaxgen.core.errors import InputError
from jaxgen.core.paths import path
from jaxgen.core.ranges import Count, Decay, Range, Seed, Share, check_settings

M = TypeVar("M")


@dataclass(frozen=True)
class Data:
    """The data source and the processing of each example."""

    # digits | shapes | scenes | tfds:NAME | folder:, idx:, npz: or paired:PATH | unpaired:PATH_A,PATH_B | emoji:FOLDER,
    # and paired:emoji:FOLDER or unpaired:emoji:FOLDER for two of its styles; of videos: video:PATH | moving-digits, or
    # moving-digits:FOLDER of MNIST | moving-shapes | bouncing-balls; of motions: mocap:PATH | actor:PATH, with clips of
    # an actor; of sounds: audio:PATH; of views of a scene: nerf:PATH
    source: str = "digits"
    dir: str | None = None  # where prepared TFDS sets live; unset: TFDS's own default
    split: str = "train"  # part of the source, or slices such as train[:9000]; tfds: also of parts, train[:90%]
    only: str | None = None  # keep only the examples of these classes, such as cat,dog, 0-8 or 0,2; unset: all
    classes: tuple[str, ...] = ()  # names of the classes 0, 1, ...; unset: those of all splits together, in order
    vocabulary: tuple[str, ...] = ()  # tokens of captions; unset: made of those of the training data
    captions: str = ""  # of folder: a .csv or .jsonl with file_name and text; unset: captions.csv or .txt beside images
    styles: str = ""  # of emoji:, such as noto,twemoji; of a translation: from the first to the second; unset: all
    labels: Literal["category", "style", "both"] = "category"  # of emoji:
    parts: tuple[Count, ...] = (1,)  # of audio: without sub-folders: the parts of a file's name that are its class
    held_out: str = ""  # of audio: parts of names, or folders, of the sounds of split test, such as theo,yweweler
    # source images of a translation model, derived from the images; of unpaired: from those of PATH_A
    pair: Literal["none", "edges", "grey", "mask", "small"] = "none"
    # none: resize without a crop; center, random: cover, then crop; area: crop 8 to 100 % of the area; patch: crop
    # without resizing; jitter: resize to 286/256 of the size, then crop
    crop: Literal["none", "center", "random", "area", "patch", "jitter"] = "center"
    stride: Count = 1  # of video: and mocap: frames from one frame of a clip to the next
    shift: int = 0  # largest random shift in pixels, up, down or to a side; black fills the border
    flip: bool = False  # mirror left to right with probability 1/2
    turn: bool = False  # rotate a square image by 0, 90, 180 or 270 degrees
    grey: Share = 0.0  # probability that an image in colour becomes grey, in training
    # to black and white: by a threshold at half grey, or sampled with the grey level as probability, once or per epoch
    binarise: Literal["none", "threshold", "fixed", "dynamic"] = "none"
    skip_bad: bool = False  # skip unreadable images instead of stopping
    changed_ok: bool = False  # resume a run although its data have changed since its last start
    threads: Annotated[int, Range(1, 1024)] = 4  # threads that read and transform
    prefetch: Count = 2  # batches kept ready ahead of the step

    @property
    def making(self) -> str:
        """The kind of derived source images; "none" where each image has its own."""
        return "none" if self.source.startswith("paired:") else self.pair

    def at(self, split: str) -> "Data":
        """Return the same data's other split."""
        return dataclasses.replace(self, split=split)


@dataclass(frozen=True)
class Optim:
    """Changes to the optimizer of every learner."""

    # of the learning rate, from the model's down to 0 at the last step; half: linear decay in the second half
    schedule: Literal["constant", "cosine", "linear", "half"] = "constant"
    warmup: int = 0  # steps of linear warm-up; a run that is shorter takes a tenth of its steps
    clip: float = 0.0  # maximum norm of a learner's gradient; 0: no clipping
    ema: Decay | None = None  # decay of the moving averages, lower in the first steps; unset: the model's own; 0: none
    ema_widths: tuple[float, ...] = ()  # sigma_rel of post-hoc EMA profiles, such as 0.05 0.1


@dataclass(frozen=True)
class Compute:
    """The arithmetic and memory use of a step."""

    precision: Literal["f32", "bf16"] = "f32"  # of the nets' arithmetic; parameters stay f32
    accumulate: Count = 1  # parts of a batch whose gradients are averaged before an update
    remat: bool = False  # save memory: keep only convolutions and matrix products, recompute the rest
    steps_per_call: Count = 1  # steps per dispatch


@dataclass(frozen=True)
class Mesh:
    """The device mesh. The batch is sharded over data x fsdp, the parameters over fsdp."""

    data: int = 0  # 0: all remaining devices
    fsdp: Count = 1  # shards of parameters, moments and averages
    coordinator: str | None = None  # HOST:PORT of process 0; unset: from SLURM, Open MPI or the TPU pod
    num_processes: int | None = None  # with coordinator
    process_id: int | None = None  # with coordinator; 0 writes the files


@dataclass(frozen=True)
class Log:
    """Metrics and previews, and their intervals in steps."""

    every: Count = 100  # steps between lines of averaged metrics
    samples: int = 1000  # steps between previews; 0: none
    count: Count = 64  # examples in a preview


@dataclass(frozen=True)
class Save:
    """Checkpoints."""

    every: Count = 1000  # steps
    keep: Count = 2  # number of checkpoints kept, the newest
    averages: Count = 1000  # steps between the snapshots of optim.ema_widths, which are all kept


@dataclass(frozen=True)
class Eval:
    """Evaluation on held-out data during training."""

    every: int = 0  # steps; 0: never
    split: str = "test"  # of the same source
    batches: int = 4  # number of batches; 0: all
    # loss (of every phase), accuracy, nll_K, reconstruction_psnr, psnr_rgb, ..., or a score of samples: fid_lenet, ...
    metrics: tuple[str, ...] = ("loss",)
    count: Count = 10_000  # samples in a score
    subset: Annotated[int, Range(2)] = 1000  # images in each random subset of KID


@dataclass(frozen=True)
class Run(Generic[M]):
    """One training run."""

    model: M
    preset: str = ""  # preset with the default settings
    steps: Count = 1000  # training steps
    batch: Count = 64  # examples per phase and step, over all devices
    seed: Seed = 0  # of weights, noise and the order of the data
    out: str | None = None  # the run's folder; unset: runs/<preset>
    start_from: str | None = None  # folder of a run whose fitting weights are the initial weights
    data: Data = field(default_factory=Data)
    optim: Optim = field(default_factory=Optim)
    compute: Compute = field(default_factory=Compute)
    mesh: Mesh = field(default_factory=Mesh)
    log: Log = field(default_factory=Log)
    save: Save = field(default_factory=Save)
    eval: Eval = field(default_factory=Eval)

    @property
    def folder(self) -> Path:
        return path(self.out or f"runs/{self.preset}")


@dataclass(frozen=True)
class Preset(Generic[M]):
    """A row of the zoo: a full run and a tiny one. Its published results are in jaxgen/evaluation."""

    run: Run[M]
    tiny: Run[M]
    parameters: int  # of all nets at full size
    merged: int | None = None  # the same, in the form for inference that published files hold, if that is another one


def validate(run: Run):
    """Raise InputError for settings that can't be right, alone or together; no data are opened."""
    check_settings(run)
    if run.optim.ema is not None and run.optim.ema_widths:
        raise InputError("optim.ema and optim.ema_widths are two ways to average: give one of them.")
    for width in run.optim.ema_widths:
        posthoc_ema.check_width(width, "optim.ema_widths")
    if len(set(run.optim.ema_widths)) < len(run.optim.ema_widths):
        raise InputError("optim.ema_widths must differ from each other.")
    if run.start_from == "":
        raise InputError("start_from is empty: name the folder of a run, or leave it out.")
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
