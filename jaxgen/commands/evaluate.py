"""python -m jaxgen evaluate: metrics of a run's newest checkpoint."""

from pathlib import Path
from typing import Literal

from jaxgen.commands.shared import Folder
from jaxgen.core.errors import at_least


def evaluate_(
    run: Folder,
    metrics: str = "",
    count: int = 10_000,
    real: int | None = None,
    split: str | None = None,
    floor: str | None = None,
    seeds: int = 1,
    seed: int = 0,
    weights: Literal["average", "last"] = "average",
    resizer: Literal["clean", "legacy"] = "clean",
    inception: Path | None = None,
    cache: bool = True,
    sampler: Literal["prior", "mixture", "two-stage"] = "prior",
    sampling: str = "",
    average: float | None = None,
):
    """Measure a run's newest checkpoint, and write each number with its protocol to RUN/evaluations.jsonl.

    Args:
        run: the folder of the run
        metrics: names with commas between: accuracy and loss on held-out data; scores of samples: fid_, kid_, is_,
            pr_ (precision and recall), dc_ (density and coverage) or swd_ (sliced Wasserstein), followed by what gives
            the features: inception, lenet, efficientnet_lite0, random, pixels, or a classifier's run folder; of models
            with a likelihood nll_K in nats or bpd_K in bits per dimension, by K samples each; of autoencoders
            reconstruction_psnr, rfid_, active_units; of models that mend or translate psnr_y, psnr_rgb, ssim_y,
            ssim_rgb, with _border2 where 2 pixels are cut off.
            Unset: accuracy for a classifier, fid_lenet and kid_lenet for a generator, psnr_rgb for what mends or
            translates, reconstruction_psnr for a plain autoencoder, the loss for any other
        count: samples to be scored; what is measured of held-out images is of all of the split
        real: how many real images they are compared with; unset: all of the split
        split: of the run's data, or a part of it, such as test[:1000]; unset: the one held out for accuracy and loss,
            the one trained on for scores
        floor: also score the real images of this split, such as test, as if they were samples
        seeds: how many times other samples are scored; from two on a 95 % interval is given
        seed: the first of the seeds
        weights: the moving average where there is one, or the last
        resizer: to the extractor's size by antialiased bicubic (clean), or by TensorFlow 1's bilinear (legacy)
        inception: the file of FID's Inception weights; unset: JAXGEN_INCEPTION, the cache, or a download
        cache: keep the real images' statistics for the next time
        sampler: what the samples come from: the model's prior, or what `generate --sampler` fits on its codes
        sampling: how a diffusion model draws them, as for `generate`
        average: width sigma_rel of the weights' average, as for `generate`
    """
    from jaxgen.evaluation.report import evaluate_run

    at_least(1, count=count, real=real, seeds=seeds)
    at_least(0, seed=seed)
    evaluate_run(
        run,
        [name for name in metrics.split(",") if name],
        count=count,
        real=real,
        split=split,
        floor=floor,
        seeds=range(seed, seed + seeds),
        average=weights == "average",
        width=average,
        resizer=resizer,
        inception=inception,
        cache=cache,
        sampler=sampler,
        sampling=sampling,
    )
