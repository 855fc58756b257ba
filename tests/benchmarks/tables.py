"""The tables of published results: their columns and captions. The numbers are in jaxgen/evaluation/results.jsonl.

A cell is a template: `{metric:format}` is a result of the table's row, `{metric@case:format}` one of a case,
`{metric@case.field}` what else is known of it, `{.field}` what is known of the whole row. A format such as `.3g±.2g`
adds the interval where there is one. Of several templates with `|` between, the first that is complete is shown. The
results also say which settings were changed, which the caption has at `{settings}`, and when and where the numbers were
measured, which it ends with.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """The columns of a table, and the caption below it."""

    labels: tuple[str, ...]  # titles of the first columns, which name the row
    columns: dict[str, str]  # title -> cell
    caption: str


STEP = {
    "ms": "{ms:,.0f}",
    "images/s": "{images_per_second:,.0f}",
    "time relative to ours": "{time_ratio:.2f}",
    "CPU ms": "{cpu_ms:,.0f}",
    "CPU time relative to ours": "{cpu_time_ratio:.2f}",
}
TURNS = "2 threads, medians of alternating turns."
MINUTES = {"training": "{training_minutes:.0f} min"}
COUNTS = (1, 2, 4, 8, 32, 128)  # steps of a sampler
BESIDE = "Training time beside other trainings."
DIGITS = "10,000 samples beside the 60,000 training digits"
UNCLIPPED = (
    "Images of 28x28 were enlarged for the scores without clipping then, and are clipped now, which lowers FIDs."
)
DIFFUSION = (
    "a cosine learning rate, moving averages of 0.999 (`edm2`: its own schedules; `ddpm`, `vdm`: a rate of 1e-3), one "
    "seed; a U-Net of width 16 with one block per resolution (`sit`: a DiT of 6 layers of 96 with patches of 4); "
    f"fid_lenet of {DIGITS}, as in the GANs' table; bits/dim: VDM's bound of -log2 P of the 10,000 test digits' 8-bit "
    f"pixels, 16 draws each. {UNCLIPPED} {BESIDE}"
)
TRANSLATED = {"steps": "{.steps:,}", **MINUTES}
PSNR_Y = "{psnr_y_border2CASE:.2f}|{psnr_y_border3CASE:.2f}|{psnr_y_border4CASE:.2f}|{psnr_yCASE:.2f}"
SSIM_Y = "{ssim_y_border2:.4f}|{ssim_y_border3:.4f}|{ssim_y_border4:.4f}|{ssim_y:.4f}"

LIKELIHOOD = {"bits/dim": "{bpd_1:.4f}|{bpd_8:.4f}", "published": "{bpd_1@published:.3f}|{bpd_8@published:.4f}"}


def drawn(count: int) -> str:
    """Return the case of a metric of samples that were drawn in so many steps."""
    return f"{count} sampling step{'s' * (count > 1)}"


PSNR = f"{PSNR_Y}|{{psnr_rgbCASE:.2f}}"

TABLES = {
    "shipped": Table(
        ("weights", "for", "images"),
        {
            "PSNR before": PSNR.replace("CASE", "@input"),
            "after": PSNR.replace("CASE", ""),
            "improved": "{improved:.0%}",
            "worst change": "{worst_change:+.2f} dB",
            "seconds for 512x512": "{seconds:.1f}",
        },
        "On images that the weights were not trained on; PSNR in dB (at most 50 an image) of luma where images are "
        "enlarged or grey, of R, G and B otherwise. Before: bicubic interpolation, or the degraded input. Images are "
        "degraded as in training, or by noise of the stated sigma; clean: not at all, so that every change is damage. "
        "Improved: the share of images whose PSNR rose. Seconds: one colour image of 512x512, without start and "
        "compilation.",
    ),
    "restoration-scores": Table(
        ("weights", "task", "set"),
        {
            "PSNR Y": PSNR_Y.replace("CASE", ""),
            "published PSNR Y": PSNR_Y.replace("CASE", "@published"),
            "SSIM Y": SSIM_Y,
            "seconds": "{seconds:.0f}",
        },
        "Published weights. The inputs are made by MATLAB's bicubic, clipped and rounded to 8 bits (not for VDSR, as "
        "in its training); PSNR in dB of luma, as many pixels shaved off as the factor, whole images; noise of "
        "`numpy.random.RandomState(0)`; seconds for the whole set, compilation included. Set14's one grey image is "
        "scored by the luma of three equal channels, as by IMDN's authors. The published figures of bicubic score its "
        "levels as they are: 0.09 dB less in the mean of Set14.",
    ),
    "published-pixelcnn": Table(
        ("weights", "images"),
        LIKELIHOOD,
        "Bits per dimension of 8-bit images, imported and measured by the commands above, beside the published figure.",
    ),
    "published-flows": Table(
        ("weights", "images"),
        LIKELIHOOD,
        "Bits per dimension of 8-bit images by 8 draws of the noise for each, imported and measured by the commands "
        "above. The first 1,000 digits are easier than the whole set, of which the published figures are.",
    ),
    "pixel-likelihoods": Table(
        ("model",),
        {
            "steps": "{.steps:,}",
            **MINUTES,
            "NLL, nats": "{nll_1_fixed:.1f}",
            "published": "{nll_1_fixed@published:.1f}",
        },
        "MNIST, 28x28, each pixel drawn once as black or white with its grey level as probability; nats on the 10,000 "
        "test digits; one seed, Adam from 1e-3 down along a cosine, averaged weights; minutes of processor time on one "
        "core. {settings} The published figures, which we did not look up ourselves, are of longer training and of "
        "larger nets, on another such drawing.",
    ),
    "pixel-sampling": Table(
        ("model",),
        {
            "cached": "{seconds:.3f} s",
            "one pass": "{seconds@one pass:.3f} s",
            "a pass for each pixel": "{seconds@naive:.1f} s",
        },
        "Processor time for each image of 28x28, batches of 8, one core, without compilation. A pass for each pixel: "
        "784 times that of one pass.",
    ),
    "restore-memory": Table(
        ("image", "answer", "weights"),
        {"limit": "{memory_limit_gib:.0f} GiB", "peak": "{peak_memory_gib:.3g} GiB", "minutes": "{minutes:.3g}"},
        "`python -m jaxgen restore` in tiles: the peak of the resident memory, imports and compilation included.",
    ),
    "video-editing": Table(
        ("edit", "clip"),
        {
            "simplest way, dB": "{psnr_rgb@simple:.2f}|{psnr_next@simple:.2f}",
            "net alone, dB": "{psnr_rgb@single:.2f}",
            "without net, dB": "{psnr_rgb@no_net:.2f}",
            "edit, dB": "{psnr_rgb:.2f}|{psnr_next:.2f}",
            "shake before, pixels": "{shake_pixels@simple:.2f}",
            "after": "{shake_pixels:.2f}",
        },
        "PSNR of frames that were left out, of frames without noise (sigma 25 was added), of what was hidden, and "
        "between neighbouring frames of a clip that was shaken. The simplest way: the mean of both frames, the "
        "noisy input, a hole that continues its surroundings, the shaken clip.",
    ),
    "video-editing-memory": Table(
        ("edit", "frames"),
        {"peak": "{peak_memory_gib:.3g} GiB"},
        "`python -m jaxgen edit-video`, a clip of 640x360: the peak of the resident memory of the process, imports and "
        "compilation included.",
    ),
    "video-macs": Table(
        ("preset",),
        {"GMAC": "{gmac:.2f}", "with norms": "{gmac_norms:.2f}", "published": "{gmac@published:.1f}"},
        "Billions of multiplications with an addition for one clip of 64x64, 10 frames to 10, counted in the program. "
        "GMAC: convolutions and matrix products. With norms: also 5 for each value of a group norm and 2 for each one "
        "of a batch norm, as fvcore counts them, with which OpenSTL's figures were made; they are those published. "
        "`simvp-convmixer` agrees without the norms only.",
    ),
    "view-quality": Table(
        ("model", "after"),
        {
            "training": "{training_minutes:.1f} min",
            "PSNR, 8 views": "{psnr_rgb@8 views:.2f}",
            "25 views": "{psnr_rgb:.2f}",
        },
        "NeRF's lego, 100 images of 400x400 on white, downsampled to 50x50; PSNR in dB of RGB, the mean over held-out "
        "views. 256 rays a step, one seed, one core that other programs used as well: compare the models with each "
        f"other only. `nerf` was stopped before its 2,000 steps. {{settings}} {BESIDE}",
    ),
    "motion-capture": Table(
        ("model",),
        {"steps": "{.steps:,}"}
        | {
            f"{name}{words}": f"{{{metric}{label}:.0f}}"
            for label, words in (("", ""), ("@hidden", ", hidden"))
            for name, metric in (("MPJPE", "mpjpe"), ("PA-MPJPE", "pa_mpjpe"), ("acceleration", "acceleration"))
        },
        "Clips of drawn actors that play takes of other people than those of the training: errors in "
        "millimetres, the pelvis at 0, and of accelerations in millimetres by squared frames of 1/25 s; with nothing "
        "in front of the actor, and, hidden, with one or two things that cross in front. Short trainings of equal "
        "CPU time on one core, compilation not counted: compare the nets with each other only. {settings}",
    ),
    "motion-prediction": Table(
        ("model", "action"),
        {"steps": "{.steps:,}"} | {f"{time} ms": f"{{mpjpe_{time}ms:.1f}}" for time in (80, 160, 320, 400, 560, 1000)},
        "Mean distance of 38 joints in millimetres, of all windows of every second frame of an action's test take, "
        "10 frames to 25, in the frame of the root. The mean is over the five actions that the shared data have "
        "training takes of; `washwindow` has none, and the training data of MSR-GCN have all eight actions. {settings}",
    ),
    "motion-generation": Table(
        ("model",),
        {
            "steps": "{.steps:,}",
            "CPU minutes": "{cpu_minutes:.1f}",
            "FID": "{fid_action_gru:.2f}",
            "accuracy": "{accuracy_action_gru:.1%}",
            "diversity": "{diversity_action_gru:.2f}",
            "multimodality": "{multimodality_action_gru:.2f}",
            "foot sliding": "{foot_sliding_cm_s:.1f}",
        },
        "Five actions of the CMU split, 100 clips of 60 frames of each. Frechet distance to windows of the test takes, "
        "accuracy, and mean distances of pairs (of all, and of one action) by `action-gru`, trained here "
        "on the same training takes. Foot sliding in cm/s at the literature's 25 frames a second. Small nets, trained "
        "for about equal times on one core, which is far less than their papers' trainings; reading, start and "
        "compilation count. `training clips` are windows of the training takes, which the classifier has seen. "
        "{settings}",
    ),
    "video-prediction": Table(
        ("model",),
        {
            "steps": "{.steps:,}",
            "CPU minutes": "{cpu_minutes:.1f}",
            "MSE": "{mse_pixel_sum:.1f}",
            "MAE": "{mae_pixel_sum:.1f}",
            "PSNR": "{psnr_rgb:.2f}",
        },
        "`moving-digits`, 10 frames to 10, the first 1,000 clips of the test set: squared and absolute errors summed "
        "over a frame of values in [0, 1], and PSNR in dB, each the mean over frames. Small nets, trained for about "
        "equal times on one core, which is far less than the 200 epochs of OpenSTL's table; start and compilation "
        "count. "
        "{settings}",
    ),
    "video-distance": Table(
        ("clips", "damage"),
        {"distance": "{fvd_action_moving_shapes:.2f}"},
        "`fvd_action_moving_shapes` of 500 clips of the test set of `moving-shapes` to the other 500: the Fréchet "
        "distance of the 64 features of the shipped action net. It is not FVD, whose net is another one. It tells "
        "damage to time and motion; noise it hardly sees.",
    ),
    "restoration-quality": Table(
        ("model", "set"),
        {"steps": "{.steps:,}", **MINUTES, "PSNR Y": PSNR_Y.replace("CASE", "")},
        "Trained on T91 or Train400 and nothing else, one seed, a cosine schedule, averaged weights; PSNR in dB as in "
        "the table of published weights (Set12 and BSD68: grey); `vdsr-short` is `vdsr` planned for about the time of "
        "`edsr-small`, and trained beside it. The figure of `edsr-small` is of images that were downsampled without "
        f"rounding to 8 bits, in training too. {{settings}} {BESIDE}",
    ),
    "degradation-quality": Table(
        ("model",),
        {
            "steps": "{.steps:,}",
            **MINUTES,
            "PSNR, degraded": "{psnr_rgb@input:.2f}",
            "PSNR, restored": "{psnr_rgb:.2f}",
            "improved": "{improved:.0%}",
            "SSIM, degraded": "{ssim@input:.3f}",
            "SSIM, restored": "{ssim:.3f}",
            "IoU of the damage": "{iou_damage:.2f}",
            "distance of answers, hole": "{answer_distance_hole:.1f}",
            "elsewhere": "{answer_distance_rest:.1f}",
        },
        "Trained on 1,600 photographs of flowers (`photo-repair`: and Train400), scored on 400 others, degraded as in "
        "training: means of PSNR in dB of RGB and of SSIM; an image counts as 50 dB at most; improved: the share of "
        "images whose PSNR rose; IoU: of the pixels that are damaged and those that are detected. One seed, averaged "
        f"weights. {{settings}} {BESIDE}",
    ),
    "translation-quality-emoji": Table(
        ("model",),
        {
            **TRANSLATED,
            "FID": "{fid_efficientnet_lite0:.4g}",
            "LPIPS": "{lpips_st_alex:.4g}",
            "LPIPS of the inputs": "{lpips_st_alex@input:.4g}",
            "PSNR": "{psnr_rgb:.4g}",
            "diversity": "{diversity_lpips_st_alex:.4g}",
        },
        "Edges to emoji, 64x64: trained on 600 emoji, scored on the 1,400 others by FID (EfficientNet-Lite0), on 400 "
        "of them by LPIPS (ST-LPIPS, AlexNet) and PSNR in dB; diversity: LPIPS between two answers. One seed. "
        "{settings}",
    ),
    "translation-quality-flowers": Table(
        ("model",),
        {
            **TRANSLATED,
            "LPIPS": "{lpips_st_alex:.4g}",
            "LPIPS of the inputs": "{lpips_st_alex@input:.4g}",
            "PSNR": "{psnr_rgb:.4g}",
            "PSNR of the inputs": "{psnr_rgb@input:.4g}",
            "PSNR, colour to grey": "{psnr_rgb_backwards:.4g}",
            "cycle error": "{cycle_error:.4g}",
            "identity error": "{identity_error:.4g}",
            "latent distance": "{latent_distance:.4g}",
            "latents matched": "{latents_matched:.4g}",
            "diversity": "{diversity_lpips_st_alex:.4g}",
        },
        "Grey to colour without pairs, 64x64: 800 flowers in grey and 800 in colour, scored on 400 others; LPIPS and "
        "PSNR in dB to the true colours and, for colour to grey, to the true grey; cycle and identity error: mean "
        "absolute difference, of 255; latent distance: between both domains' latents of one image, over that between "
        "two images; latents matched: the share of images where it is the smallest of 50; diversity: LPIPS (ST-LPIPS, "
        "AlexNet) between two answers. One seed. {settings}",
    ),
    "translation-quality-classes": Table(
        ("model",),
        {
            **TRANSLATED,
            "classifier accuracy": "{classifier_accuracy:.4g}",
            "target class, inputs": "{target_class_accuracy@input:.4g}",
            "target class, translated": "{target_class_accuracy:.4g}",
            "cycle error": "{cycle_error:.4g}",
            "identity error": "{identity_error:.4g}",
        },
        "Flowers translated into each of the four other classes, 64x64: trained on 1,600; 400 others are scored by a "
        "logistic regression of EfficientNet-Lite0's features, whose own accuracy on them is the classifier accuracy. "
        "Target class: the share of the goals that it predicts, for the inputs and for their translations. Cycle and "
        "identity error: mean absolute difference, of 255, there and back, and of images translated into the class "
        "that they have. One seed. {settings}",
    ),
    "style-quality": Table(
        ("method",),
        {
            **MINUTES,
            "seconds per image": "{seconds_per_image:.1f}",
            "content": "{content_loss_ratio:.3f}",
            "style": "{style_loss_ratio:.3f}",
        },
        "3 photographs at 256x256 in the style of Hokusai's wave, by `stylize`: seconds for each, the start of Python "
        "included. Content and style are the parts of Gatys' loss, means: content is 0 where the photograph is "
        "unchanged, 1 where the features are empty, and more where strokes outweigh it; style is relative to the "
        "photographs' own. Trained on 2,000 flowers; AdaIN's decoder, which WCT of a latent shares, on 600 parts of "
        "three other paintings, with permuted channels and half of them as negatives, so that the wave is new to it. "
        "Dumoulin's has three styles. {settings} One seed.",
    ),
    "shipped-styles": Table(
        ("painting",),
        {
            "content": "{content_loss_ratio:.3f}",
            "style": "{style_loss_ratio:.3f}",
            "seconds for 256x256": "{seconds_per_image:.2f}",
        },
        "Seven photographs at 256x256 that the weights were not trained on. Content and style are the parts of Gatys' "
        "loss, means: content is 0 where the photograph is unchanged and 1 where the features are empty; style is "
        "relative to the photographs' own. Seconds: one photograph, without start and compilation.",
    ),
    "style-speed": Table(
        ("work",),
        STEP,
        f"f32, random weights except for the backbone; Gatys: 200 steps, at most 2 turns; {TURNS}",
    ),
    "scores": Table(
        ("images",),
        {
            f"{name}_lenet": f"{{{name}_lenet:.3g±.2g}}"
            for name in ("fid", "kid", "precision", "recall", "density", "coverage")
        },
        "MNIST, 10,000 images beside the 60,000 of the training set (precision to coverage: as many of them), features "
        "of the package's LeNet-5 (SHA-256 b278e34bf5a0...), moving averages of the weights, means of 3 seeds with "
        f"95 % intervals. {UNCLIPPED}",
    ),
    "gan-quality": Table(
        ("model",),
        {
            "seeds": "{.seeds}",
            "ms per step": "{ms_per_step:.1f}",
            "fid_lenet": "{fid_lenet@2,000 updates:.3g±.2g}|{fid_lenet@generated:.2g±.2g}",
            "steps in equal time": "{fid_lenet@equal time.steps:,}",
            "fid_lenet in equal time": "{fid_lenet@equal time:.3g±.2g}",
            "steps in all": "{fid_lenet@final.steps:,}",
            "final fid_lenet": "{fid_lenet@final:.3g±.2g}",
            "class accuracy": "{class_accuracy_lenet:.1%}",
        },
        f"MNIST at 32x32 (`gan`: 28x28), batch 32, {DIGITS}, moving averages, means over seeds of training with 95 % "
        "intervals: fid_lenet after 2,000 updates of the generator, after as many as take the time of `dcgan`'s 2,000 "
        "(a multiple of a quarter of them), and at the end. Class accuracy: the share of the final samples, labels in "
        "turn, that the package's LeNet-5 classifies as their label. PyTorch: the DCGAN tutorial with nets of the same "
        "width, batch and steps, at its rate of 2e-4 (`dcgan`: 5e-4). The imported GAN's interval is over seeds of its "
        f"samples. {UNCLIPPED} "
        "Changed settings, besides the size of the images: {settings}",
    ),
    "stacked-mnist": Table(
        ("images",),
        {
            "modes": "{modes_lenet:,.0f}",
            "KL": "{kl_modes_lenet:.3g}",
            "published": "{modes_lenet@published:.1f}; {kl_modes_lenet@published:.2f} ({modes_lenet@published.source})",
        },
        "Stacked MNIST, 32x32x3, 60,000 images, 2,000 updates of the generator of small nets at batch 32, one seed: "
        "modes among 26,000 samples, as the package's LeNet-5 classifies them, and KL(samples || training images) over "
        "modes in nats. The published figures (modes; KL) are of larger nets, trained longer, and of other "
        "classifiers; for the other models none was verified.",
    ),
    "vae-quality": Table(
        ("model",),
        {
            "seeds": "{.seeds}",
            "steps": "{.steps:,}",
            "-ELBO": "{nll_1:.4g±.2g}",
            "PSNR": "{reconstruction_psnr:.4g±.2g}|{hidden_patch_psnr:.4g±.2g}",
            "fid_lenet": "{fid_lenet:.4g±.2g}",
            "rfid_lenet": "{rfid_lenet:.4g±.2g}",
            "active units": "{active_units:.4g±.2g}",
            "codebook use": "{codebook_use:.4g±.2g}",
            "perplexity": "{perplexity:.4g±.2g}",
            "MIG": "{mig:.4g±.2g}",
        },
        "MNIST at each preset's own size, grey, batch 100 (`beta-vae`: shapes at 32x32), on the test set, means over "
        "seeds of training with 95 % intervals. -ELBO in nats by one sample; for grey pixels as Bernoulli variables it "
        "is the bound of a cross-entropy, not of a likelihood. PSNR in dB of reconstructions, mean over images (`mae`: "
        "of the hidden three quarters of an image, from their mean error); fid_lenet of 10,000 samples beside the "
        "60,000 training digits, rfid_lenet of the test set's reconstructions beside the test set. Active units: "
        "latents whose mean varies by more than 0.01. Autoencoders are sampled from a Gaussian mixture fitted to their "
        f"latents. {UNCLIPPED} "
        "Changed settings, besides the steps: {settings}",
    ),
    "vae-nll": Table(
        ("model",),
        {
            "steps": "{.steps:,}",
            "training, s": "{training_seconds:.0f}",
            "NLL, 5,000 samples": "{nll_5000_dynamic:.2f}",
            "-ELBO": "{nll_1_dynamic:.2f}",
            "active units": "{active_units:.0f}",
            "published": "{nll_5000_dynamic@published:.1f}",
        },
        "MNIST, 28x28, dynamically binarised, batch 100, Adam from 1e-3 down along a cosine, one seed; nats on the "
        "10,000 test digits, binarised once, whatever the seed (nll_5000_dynamic). `vae`, `iwae` (50 samples, DReG) "
        "and `vae-iaf`: 2 layers of 200 and 50 latents; `vae-vamp`: 2 layers of 300, 40 latents, 500 pseudo-inputs. "
        "The published figures, which we did not look up ourselves, are of longer training (Burda et al. 2016; Tomczak "
        f"and Welling 2018). {BESIDE}",
    ),
    "diffusion-quality": Table(
        ("model", "sampler"),
        {
            "NFE": "{nfe:.0f}",
            "fid_lenet": "{fid_lenet:.4g}",
            "bits/dim": "{bpd_16:.3f}",
            "training": "{training_minutes:.1f} min",
        },
        f"MNIST at 32x32 (`vdm`: 28x28), 2,000 steps of 32, {DIFFUSION} NFE: function evaluations for one image.",
    ),
    "diffusion-steps": Table(
        ("model",),
        {
            **{f"{n} step{'s' * (n > 1)}": f"{{fid_lenet@{drawn(n)}:.4g}}" for n in COUNTS},
            "DPM-Solver++, 12": "{fid_lenet@DPM-Solver++, 12 sampling steps:.4g}",
            "bits/dim": "{bpd_16:.3f}",
            "training": "{training_minutes:.1f} min",
        },
        f"fid_lenet. MNIST at 32x32 (`vdm`: 28x28), 8,000 steps of 64, {DIFFUSION} Steps: of Euler's method (DDIM), or "
        "of the model's own sampler.",
    ),
    "few-steps": Table(
        ("model",),
        {f"{n} step{'s' * (n > 1)}": f"{{wasserstein2@{drawn(n)}:.3f}} ({{near_mode@{drawn(n)}:.0%}})" for n in COUNTS},
        "Eight Gaussians on a ring of radius 0.75, standard deviation 0.02; a DiT of 3 layers of 64, 10,000 steps of "
        "512, Adam at 1e-3, moving averages of 0.999, one seed. Wasserstein-2 distance of 2,000 samples to as "
        "many points of the mixture, and the share of them within 5 standard deviations of a mode; `flow` by Euler's "
        "method; the floor is that of two draws of the mixture.",
    ),
    "mixture": Table(
        ("unrolled updates",),
        {f"step {n:,}": f"{{modes@step {n:,}:.3g}} ({{near_mode@step {n:,}:.0%}})" for n in range(5000, 25001, 5000)},
        "Modes covered out of 8, means over seeds, and the mean share of samples near any mode: at least 1 % of 10,000 "
        "samples of the last weights within 5 standard deviations of it. Ring of radius 1, standard deviation 0.01, "
        "batch 512, rates and loss of the authors' notebook.",
    ),
    "anomaly": Table(
        ("digit left out",),
        {
            "AUROC by likelihood": "{auroc_likelihood:.3f}",
            "AUROC by reconstruction": "{auroc_reconstruction:.3f}",
        },
        "`vae` trained on nine digits of MNIST, 3,000 steps of 100 grey images, one seed; the 10,000 of the test set "
        "ranked by -log p(x) of 10 samples of z, and by the squared error of the reconstruction: the share of pairs, "
        "one of the digit left out and one not, where the first has the higher score.",
    ),
    "accuracy": Table(
        ("weights", "images"),
        {"count": "{count:,.0f}", "top-1": "{accuracy_top1:.2%}", "top-5": "{accuracy_top5:.2%}"},
        "By `python -m jaxgen evaluate`.",
    ),
    "dcgan-step": Table(("step",), STEP, f"DCGAN step, 64x64x3, batch 64, width 64, f32, {TURNS}"),
    "startup": Table(
        ("compilation cache",),
        {"seconds": "{seconds:.1f}"},
        "From `python -m train.gan --preset dcgan --tiny` to the first image, medians of 3.",
    ),
    "input-pipeline": Table(
        ("set",),
        {
            "images/s, first pass": "{images_per_second@first pass:,.0f}",
            "later passes": "{images_per_second@later passes:,.0f}",
            "PyTorch": "{images_per_second@PyTorch:,.0f}",
            "first/PyTorch": "{speed_ratio@first pass:.4g}",
            "later/PyTorch": "{speed_ratio@later passes:.4g}",
        },
        "Input pipeline, batches of 64, 2 threads beside 2 worker processes, medians of turns.",
    ),
    "loop-overhead": Table(
        ("run",),
        {
            "bare steps/s": "{steps_per_second@bare:.4g}",
            "fit steps/s": "{steps_per_second@fit:.4g}",
            "lost": "{time_lost:.1%}",
            "lost CPU time": "{cpu_time_lost:.1%}",
        },
        "The training loop beside its bare step: medians of alternating turns, batch 64, one line of the log each.",
    ),
    "classifier-step": Table(("step",), STEP, f"ResNet-18 training step, 32x32x3, batch 128, small stem, f32, {TURNS}"),
    "features": Table(
        ("features",),
        STEP,
        "Features and FID: LeNet-5 with 10,000 images and the distance; Inception-v3 with 64 images; " + TURNS,
    ),
    "frechet": Table(
        ("formulation",),
        {"seconds": "{seconds:.2f}", "ratio": "{time_ratio:.2f}", "relative difference": "{relative_difference:.0e}"},
        "Fréchet distance of two Gaussians of 2,048 dimensions, medians of 3.",
    ),
    "gan-step": Table(
        ("step",),
        STEP,
        "f32, batch 64 (StyleGAN2: 16), one update of each net and, where lazy, of each penalty; " + TURNS,
    ),
    "vae-step": Table(("step",), STEP, f"f32, batch 64, 32x32x1; {TURNS}"),
    "diffusion-step": Table(("step",), STEP, f"f32, U-Net, EDM: batch 32, DiT-S/2, flow: batch 8; {TURNS}"),
    "restoration-step": Table(("work",), STEP, f"f32, EDSR-baseline step: batch 16, DnCNN step: batch 32; {TURNS}"),
    "convolution-cost": Table(
        ("convolutions of a training step",),
        {
            "all, ms": "{ms@all:,.0f}",
            "kernel gradients, ms": "{ms@kernel gradients:,.0f}",
            "kernel gradients, GFLOP/s": "{gflops@kernel gradients, least:.0f} to {gflops@kernel gradients, most:.0f}",
            "others, GFLOP/s": "{gflops@others, least:.0f} to {gflops@others, most:.0f}",
            "batch side by side, speed-up": "{speed_ratio@least:.1f} to {speed_ratio@most:.1f}",
        },
        "Each convolution timed alone on two cores, f32.",
    ),
    "huge-pages": Table(
        ("memory pages",),
        {"images/s": "{images_per_second:.0f}"},
        "Training of a hierarchical VAE.",
    ),
    "gpu-speed": Table(
        ("work", "by"),
        {
            "ms": "{ms:.1f}",
            "speed": "{images_per_second:,.0f} images/s|{megapixels_per_second:,.0f} megapixels/s",
            "TFLOP/s": "{tflops:.0f}",
            "share of peak": "{share_of_peak:.0%}",
            "time relative to ours": "{time_ratio:.2f}",
            "parameters": "{parameters:,.0f}",
        },
        "bf16 arithmetic, parameters, moments and averages f32; batches EDM U-Net, CIFAR-10: 128, DiT-B/2: 128; images "
        "of 512x512 (IMDN x4), 512x512 (EDSR-baseline x2), 256x256 (RRDB x4); medians of alternating turns. Published: "
        "107 images/s for DiT-XL/2 on an A100, 145 for EDM's own CIFAR-10 U-Net on a V100; the one here has ADM's form "
        "at that width and depth.",
    ),
}
