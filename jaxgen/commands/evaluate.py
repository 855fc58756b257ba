"""python -m jaxgen evaluate: metrics of a run's latest checkpoint."""

from pathlib import Path
from typing import Literal

from jaxgen.commands.shared import Folder
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Seed


def evaluate_(
    run: Folder,
    metrics: str = "",
    count: int = 10_000,
    real: int | None = None,
    split: str | None = None,
    floor: str | None = None,
    seeds: int = 1,
    seed: Seed = 0,
    weights: Literal["average", "last"] = "average",
    resizer: Literal["clean", "legacy"] = "clean",
    inception: Path | None = None,
    subset: int = 1000,
    cache: bool = True,
    sampler: Literal["prior", "mixture", "two-stage"] = "prior",
    sampling: str = "",
    average: float | None = None,
):
    """Evaluate a run's latest checkpoint, and write each metric with its protocol to RUN/evaluations.jsonl.

    Args:
        run: the run's folder
        metrics: comma-separated names. On held-out data: accuracy, loss. Of samples: fid_X, kid_X, is_X, pr_X
            (precision and recall), dc_X (density and coverage), swd_X (sliced Wasserstein distance), where X is the
            feature extractor: inception, lenet, efficientnet_lite0, random, pixels, or a classifier's run folder.
            Of models with a likelihood: nll_K in nats, bpd_K in bits per dimension, estimated with K samples per
            image. Of autoencoders: reconstruction_psnr, rfid_X, active_units. Of restoration and translation
            models: psnr_y, psnr_rgb, ssim_y, ssim_rgb; the suffix _border2 crops 2 pixels at each border;
            st_lpips_alex, st_lpips_vgg. Of videos also psnr_rgb_by_frame, st_lpips_alex_by_frame, mse_pixel_sum,
            mae_pixel_sum, flicker, flicker_error, and warping_error_X, where X is a flow net: spynet, or a run of it.
            Of generated or predicted videos fvd_X, kid_X, pr_X, dc_X, where X is action_moving_shapes or the folder of
            a run of action-net: no FVD, whose net is another one. Of images of scenes: scene_accuracy, whether they are
            what their captions say, by rule.
            Unset: accuracy for classifiers; fid_lenet and kid_lenet for generators of small grey images, such as
            digits, and fid_efficientnet_lite0 and kid_efficientnet_lite0 for all others; psnr_rgb for restoration and
            translation models, reconstruction_psnr for plain autoencoders, loss for all others
        count: number of samples to score; metrics of held-out images always use the whole split
        real: number of real images to compare with; unset: the whole split
        split: a split of the run's data, or a part of one, such as test[:1000]; unset: the held-out split for
            accuracy and loss, the training split for scores of samples
        floor: also score the real images of this split, such as test, as if they were samples
        seeds: number of evaluations with different samples; two or more give a 95 % interval
        seed: the first random seed
        weights: the moving average of the weights if there is one (average), or the latest weights (last)
        resizer: method to resize images for the extractor: antialiased bicubic (clean), or the bilinear method of
            TensorFlow 1 (legacy)
        inception: the file of the Inception weights for FID; unset: JAXGEN_INCEPTION, the cache, or a download
        subset: number of images in each of the random subsets of kid_X
        cache: keep the statistics of the real images for later evaluations
        sampler: the latents' distribution: the model's prior, or one fitted to its latents, as for `generate`
        sampling: sampling settings of a diffusion model, as for `generate`
        average: width sigma_rel of the weights' average, as for `generate`
    """
    from jaxgen.evaluation.report import evaluate_run

    at_least(1, count=count, real=real, seeds=seeds)
    at_least(2, subset=subset)
    if seed + seeds > 2**32:
        raise InputError(f"--seed {seed} with --seeds {seeds} goes beyond the last seed, 4294967295.")
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
        subset=subset,
        cache=cache,
        sampler=sampler,
        sampling=sampling,
    )
