"""python -m jaxgen generate: samples of a run."""

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxgen.commands.shared import Named
from jaxgen.core import paths
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.progress import progress
from jaxgen.core.ranges import Seed
from jaxgen.media import marks, output_files


def generate(
    run: Named,
    count: int | None = None,
    seed: Seed = 0,
    batch: int = 64,
    labels: str | None = None,
    action: str | None = None,
    frames: int | None = None,
    truncation: float = 1.0,
    sampler: Literal["prior", "mixture", "two-stage"] = "prior",
    components: int = 10,
    sampling: str = "",
    text: tuple[str, ...] = (),
    negative: str | None = None,
    guidance: float | None = None,
    average: float | None = None,
    out: Path | None = None,
    overwrite: bool = False,
):
    """Draw samples by weights that have a name, or from a run's latest checkpoint.

    The averaged weights are used if there are any.

    Sample i depends on the seed and on i only, not on the count, the batch size or the number of devices. The grid of
    a class-conditional model has one row per class.

    Args:
        run: the run's folder; or the name of trained weights, such as gan-mnist (python -m jaxgen list weights); or a
            file of weights that states its model, as export writes it
        count: number of samples; unset: 64, or one of each text where there are more, and 1 in a file that holds one
        seed: the random seed
        batch: number of samples drawn at a time
        labels: classes of the samples in turn, by name or number, such as cat,dog, 3, or 0-9; unset: all classes
        action: of a model of motions, the class of the samples, by its name, such as walking: the same as labels
        frames: number of frames of a sample, where the model makes any; unset: as in training
        truncation: psi in [0, 1]: values below 1 give less varied samples, nearer to the mean
        sampler: the latents' distribution: the model's prior (prior), or a mixture of Gaussians (mixture) or a second
            VAE (two-stage) fitted to the latents of training images; the last two also work for plain autoencoders
        components: number of Gaussians of the mixture
        sampling: settings that replace the run's model.sampling, such as steps=10,sampler=dpm++2m,guidance=2
        text: what the samples are of, in turn, such as "a red circle" "a blue cat"; or a .txt file with one a line;
            unset: captions of the run's data
        negative: a text that the samples shall not be like, in place of none; it needs a guidance above 1
        guidance: scale of classifier-free guidance, short for --sampling guidance=3
        average: width sigma_rel of the weights' average, such as 0.08, for a run with --optim.ema-widths
        out: the output file: a .png for a grid of images; for videos and motions a .gif, .apng, .mp4, .webm or lossless
            .mkv, or a .png for the frames of each in a row; for one motion a .bvh or .glb; for audio a .wav, or a .png
            for spectrograms; or a .npz for the samples as arrays ("image", u8[n h w c], "video", ...), with a .png,
            .gif or .wav beside it; unset:
            grid.png, grid.gif, ...
        overwrite: replace existing files
    """
    from jaxgen import data
    from jaxgen.inference import latent_samplers
    from jaxgen.inference.opening import configured, mark_of, open_trained, task_of, with_frames
    from jaxgen.inference.sampling import (
        check_samples,
        check_truncation,
        classes_of,
        conditioning_of,
        conditions_example,
        conditions_of,
        generator_of,
        in_turn,
        make_sampler,
        sample_spec,
    )
    from jaxgen.inference.texts import lines_of, text_input, text_tokens
    from jaxgen.media.array_files import ENDINGS, SUFFIXES, alone, check_arrays, save_arrays, stored
    from jaxgen.media.image_grid import save_npz

    if guidance is not None:
        sampling = ",".join(filter(None, (sampling, f"guidance={guidance}")))
    task, texts = task_of(run, sampling, frames), lines_of(text)
    spec = sample_spec(task)
    single = out is not None and out.suffix.lower() in alone(spec)
    count = count if count is not None else 1 if single else max(64, len(texts))
    at_least(1, count=count, batch=batch)
    if single and out and count > 1:
        raise InputError(f"A {out.suffix} holds one motion: leave out --count {count}, or write a .gif or .npz.")
    batch = min(batch, count) if single else batch
    if action is not None and labels is not None:
        raise InputError("--action and --labels both name the classes: give one of them.")
    labels = labels if action is None else action
    check_samples(task, count, f"--count {count}")
    check_samples(task, batch, f"--batch {batch}")
    out = out or Path("grid").with_suffix(ENDINGS[spec.kind])
    suffixes = (*SUFFIXES[spec.kind], *alone(spec))
    shown = out if out.suffix.lower() in suffixes else output_files.beside(out, ENDINGS[spec.kind])
    output_files.check(out, tuple(dict.fromkeys((*suffixes, ".npz"))), overwrite, [shown])
    check_arrays(shown, spec)
    classes = classes_of(task, labels)
    check_truncation(task, truncation)
    latent_samplers.check(task, sampler, components)
    if sampler == "prior":
        generator_of(task)
    if sampler != "prior" and truncation < 1:
        raise InputError(f"--truncation needs --sampler prior, not {sampler}.")
    written = text_tokens(task, texts, negative) if texts or negative is not None else {}
    if (
        negative is not None
        and (settings := configured(run, sampling=sampling))
        and settings.model.sampling.guidance == 1
    ):
        raise InputError("--negative has no effect without guidance: give --guidance 3, or another scale above 1.")
    names, folder = conditions_of(task), paths.path(run).is_dir()
    lacking = set(names) - {"label", *written}
    if not folder and (sampler != "prior" or lacking):
        instead = "give --text" if text_input(task) else "name a run's folder"
        raise InputError(f"{run} has no training data, which this needs: {instead}.")
    opened = with_frames(open_trained(run, sampling=sampling, average=average), frames)
    config, mesh, task, state, frozen, step = latent_samplers.refit(opened, sampler, components)
    sample = make_sampler(task, mesh, batch)
    needed, rows = {}, 0
    if lacking:
        needed = conditioning_of(task, config, data.open_source(config.data, conditions_example(task)), count)
    if classes and (labels is not None or names == ("label",)):
        turns, rows = in_turn(classes, count)
        needed = {**needed, **turns}
    if written:
        needed |= {name: np.resize(tokens, (count, tokens.shape[1])) for name, tokens in written.items()}
        rows = len(texts) if 1 < len(texts) <= count and not rows else rows
    if truncation < 1:
        needed = {**needed, "truncation": np.full(count, truncation, np.float32)}
    given = any(task.example[name].kind in ("image", "video", "audio") for name in names)
    mark = mark_of(marks.EDITED if given else marks.DRAWN, run, opened, seed)
    ends: list[float] = []
    calls: list[int] = []

    with progress("drawing samples", count) as show:

        def after(made):
            ends.append(time.perf_counter())
            calls.extend(np.asarray(made.get("nfe", ())))
            show(min(batch * len(ends), count))

        samples = sample(state, frozen, seed, count, needed, after)
    with output_files.together():
        if out != shown:
            labelled: dict[str, Any] = {"label": needed["label"]} if classes else {}
            if classes and len(names := task.example["label"].names) == task.classes:
                labelled["classes"] = np.asarray(names)
            save_npz(out, mark, **{generator_of(task).main: stored(spec, samples)}, step=step, seed=seed, **labelled)
        save_arrays(shown, spec, samples, mark, rows=rows)
    print(f"{count} samples of step {step}: {out}{pace(config.model, batch, ends, calls[:count])}")


def pace(model: Any, batch: int, ends: list[float], counted: list[int]) -> str:
    """Return the sampling speed and cost as text.

    ends:    the times at which batches were finished; the first one includes compiling and is not counted
    counted: function evaluations of each sample, for samplers with an adaptive number
    """
    text = ""
    if calls := getattr(getattr(model, "sampling", None), "nfe", None):
        text += f"; {calls} function evaluations per image"
    elif counted:
        text += f"; {min(counted)} to {max(counted)} function evaluations per image, "
        text += f"{np.mean(counted):.0f} on average"
    if len(ends) > 1:
        speed = batch * (len(ends) - 1) / (ends[-1] - ends[0])
        text += f"; {speed:,.0f} images/s" if speed >= 100 else f"; {speed:.3g} images/s"
    return text
