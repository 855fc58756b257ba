"""What the name of a metric does not say of its protocol, for the results of each table; they keep it."""

WHOLE = "whole images, MATLAB's bicubic or noise of numpy.random.RandomState(0), mean over the set"
SAMPLED = "10,000 samples beside the 60,000 training digits, LeNet-5 of the package, averaged weights"
BESIDE_ALL = "10,000 images beside the 60,000 of the training set, averaged weights"
BESIDE_AS_MANY = "10,000 images beside as many of the training set, averaged weights"
HELD_OUT = "mean over 400 held-out images, averaged weights"
CROSS = "one sample of z, test set, nats; a bound of the cross-entropy where pixels are grey"
ALONE = "2 threads, median of turns that alternate with the other side"
TIMED: dict[str, str] = dict.fromkeys(("ms", "images_per_second", "time_ratio", "cpu_ms", "cpu_time_ratio"), ALONE)
ALTERNATING = (
    "dcgan-step",
    "classifier-step",
    "features",
    "gan-step",
    "vae-step",
    "diffusion-step",
    "restoration-step",
    "style-speed",
)
DIFFUSION = {"fid_lenet": SAMPLED, "bpd_16": "8-bit pixels of the 10,000 test digits, VDM's bound, 16 draws each"}
PROTOCOLS: dict[str, dict[str, str]] = {  # table -> metric -> what its name does not say
    "motion-capture": {
        "mpjpe": "mm, mean over 27 joints, the pelvis at 0, 160 clips of 16 frames; @hidden: with things in front",
        "pa_mpjpe": "the same after the best similarity of each frame",
        "acceleration": "mm by squared frames of 1/25 s",
    },
    "motion-prediction": dict.fromkeys(
        [f"mpjpe_{time}ms" for time in (80, 160, 320, 400, 560, 1000)],
        "mm, mean over 38 joints and all windows of the action's test take, stride 2, 10 frames to 25, root at 0",
    ),
    "motion-generation": {
        "fid_action_gru": "500 clips of five actions to 500 windows of the test takes, 30 features of action-gru",
        "accuracy_action_gru": "share of clips that action-gru gives their action",
        "diversity_action_gru": "mean distance of the features of 200 random pairs",
        "multimodality_action_gru": "the same of pairs of one action, the mean over the actions",
        "foot_sliding_cm_s": "mean speed along the ground of feet lower than 5 cm, weighted by 2 - 2^(h / 5 cm)",
        "cpu_minutes": "the training's process, reading and compilation included",
    },
    "shipped": {
        **{f"psnr_y_border{n}": f"{WHOLE}, luma, in tiles of 384" for n in (2, 3, 4)},
        "psnr_y": f"{WHOLE}, grey",
        "psnr_rgb": "mean over the set, at most 50 dB an image, degraded as in training unless the set says otherwise",
        "improved": "the share of images whose PSNR rose",
        "worst_change": "of an image's PSNR in dB, the least",
        "seconds": "one image of 512x512x3, the least of three, without compilation",
    },
    "restoration-scores": {
        **{f"{metric}_y_border{n}": f"{WHOLE}, luma" for metric in ("psnr", "ssim") for n in (2, 3, 4)},
        **dict.fromkeys(("psnr_y", "ssim_y"), f"{WHOLE}, grey"),
        "seconds": "the whole set, compilation included",
    },
    "restore-memory": {"peak_memory_gib": "resident memory of the process, imports and compilation included"},
    "video-editing": {
        "psnr_rgb": "dB, 8 bits, mean over the frames; of a removal of the hidden part only; @simple: the mean of both "
        "frames, the noisy input, a hole that continues its surroundings; @single: the net alone; @no_net: without it",
        "shake_pixels": "root mean square of the motion of four points from frame to frame; @simple: of the input",
        "psnr_next": "dB, between neighbouring frames, without borders; @simple: of the input, @unshaken: of the clip",
    },
    "video-editing-memory": {"peak_memory_gib": "resident memory of the process, imports and compilation included"},
    "restoration-quality": {
        **{f"psnr_y_border{n}": f"{WHOLE}, luma, averaged weights" for n in (2, 3, 4)},
        "psnr_y": f"{WHOLE}, grey, averaged weights",
    },
    "degradation-quality": {
        "psnr_rgb": f"{HELD_OUT}, degraded as in training, at most 50 dB an image",
        "ssim": f"{HELD_OUT}, degraded as in training",
        "improved": "the share of 400 held-out images whose PSNR rose",
        "iou_damage": "pixels that are damaged and that are detected, of 400 held-out images",
    },
    "translation-quality-emoji": {
        "fid_efficientnet_lite0": "1,400 held-out images",
        "lpips_st_alex": HELD_OUT,
        "psnr_rgb": f"{HELD_OUT}, at most 50 dB an image",
        "diversity_lpips_st_alex": "between two answers, mean over 400 held-out images",
    },
    "translation-quality-flowers": {
        "lpips_st_alex": HELD_OUT,
        "psnr_rgb": f"{HELD_OUT}, at most 50 dB an image",
        "psnr_rgb_backwards": f"{HELD_OUT}, colour translated to grey, at most 50 dB an image",
        "cycle_error": "mean absolute difference there and back, of 255",
        "identity_error": "mean absolute difference of images of the target domain, of 255",
        "latent_distance": "between both domains' latents of an image, over that between two images",
        "latents_matched": "the share of images whose own latent is the nearest of 50",
        "diversity_lpips_st_alex": "between two answers, mean over 400 held-out images",
    },
    "translation-quality-classes": {
        "classifier_accuracy": "a logistic regression of EfficientNet-Lite0's features, 400 held-out images",
        "target_class_accuracy": "the share of goals that this logistic regression predicts, 400 held-out images",
        "cycle_error": "mean absolute difference there and back, of 255",
        "identity_error": "mean absolute difference of images of the class already, of 255",
    },
    "style-quality": {
        "seconds_per_image": "by `stylize`, the start of Python included",
        "content_loss_ratio": "|F - P|^2 / |P|^2 of Gatys' loss, mean over the photographs",
        "style_loss_ratio": "the style part of Gatys' loss, over the photographs' own",
    },
    "shipped-styles": {
        "seconds_per_image": "256x256, the least of seven, without start and compilation",
        "content_loss_ratio": "|F - P|^2 / |P|^2 of Gatys' loss, mean over seven photographs of 256x256",
        "style_loss_ratio": "the style part of Gatys' loss over the photograph's own, mean over the same",
    },
    "scores": {
        "fid_lenet": BESIDE_ALL,
        "kid_lenet": BESIDE_ALL,
        **{f"{name}_lenet": BESIDE_AS_MANY for name in ("precision", "recall", "density", "coverage")},
    },
    "gan-quality": {
        "fid_lenet": SAMPLED,
        "class_accuracy_lenet": "10,000 samples, labels in turn, LeNet-5 of the package",
        "ms_per_step": "batches from the loader included, median of 7 times half a second",
    },
    "stacked-mnist": {
        "modes_lenet": "of 1,000, among 26,000 samples, LeNet-5 of the package",
        "kl_modes_lenet": "KL(samples || training images) over modes, nats, 26,000 samples",
    },
    "vae-quality": {
        "nll_1": CROSS,
        "reconstruction_psnr": "dB, mean over the test set",
        "hidden_patch_psnr": "dB, of the hidden three quarters of an image, from their mean error, test set",
        "fid_lenet": "10,000 samples beside the 60,000 training digits, LeNet-5 of the package",
        "rfid_lenet": "the test set's reconstructions beside the test set, LeNet-5 of the package",
        "active_units": "latents whose mean varies by more than 0.01",
    },
    "vae-nll": {
        "nll_5000_dynamic": "importance-weighted, 5,000 samples, 10,000 test digits binarised once, nats",
        "nll_1_dynamic": "-ELBO, 10,000 test digits binarised once, nats",
        "active_units": "latents whose mean varies by more than 0.01",
    },
    "diffusion-quality": DIFFUSION,
    "diffusion-steps": DIFFUSION,
    "few-steps": {
        "wasserstein2": "2,000 samples to as many points of the mixture",
        "near_mode": "the share of 2,000 samples within 5 standard deviations of a mode",
    },
    "mixture": {
        "modes": "of 8, with at least 1 % of 10,000 samples of the last weights within 5 standard deviations",
        "near_mode": "the share of 10,000 samples within 5 standard deviations of a mode",
    },
    "anomaly": {
        "auroc_likelihood": "-log p(x) of 10 samples of z, 10,000 test digits",
        "auroc_reconstruction": "squared error of the reconstruction, 10,000 test digits",
    },
    "accuracy": dict.fromkeys(("accuracy_top1", "accuracy_top5"), "the share of all the images of the split"),
    **dict.fromkeys(ALTERNATING, TIMED),
    "gpu-speed": {
        **dict.fromkeys(("ms", "images_per_second", "megapixels_per_second"), "bf16, median of alternating turns"),
        "tflops": "matrix products and convolutions of the work as it is written",
        "share_of_peak": "of the chip's dense bf16 peak by its datasheet",
    },
}
