"""The commands of the documentation, and a folder with everything that they name."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import wavfile

from jaxgen.data.known_skeletons import CMU, DEEPMIMIC, SMPL
from tests.helpers.scenes import posed
from tests.helpers.takes import take, walking
from tests.helpers.untrained import untrained

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for pattern in ("README.md", "train/*.md", "jaxgen/**/*.md") for path in ROOT.glob(pattern))
SIDE = 64  # of the images, in pixels

# What takes long on real sizes, and sets that are not here.
SMALLER = (
    (r"^srun ", ""),
    (r"(jaxgen demo)(?!.*--check)", r"\1 --check"),
    (r"tfds:mnist( --data.dir DIR)?", "tfds:mnist --data.dir TFDS"),
    (r"tfds:cifar10", "folder:FLOWERS"),
    (r"--mesh.data 64", "--mesh.data 8"),
    (r"--model.image 128 128 3", "--model.image 8 8 3"),
    (r"mocap:\S+", "mocap:TAKES"),
    (r"(--preset (?:motion-vae|mdm|mvae|acrnn|action-gru) (?!.*--model.skeleton).*)", r"\1 --model.skeleton take.bvh"),
    (r"--data.only walking", "--data.only walk"),
    (r"actor:\S+", "actor:ACTORS"),
    (r"audio:\S+", "audio:SOUNDS"),
    (r"(action-net.*)video:DIR", r"\1video:KINDS --model.image 16 16 3"),
    (r"video:DIR --model.image 64 64 3", "video:CLIPS --model.image 16 16 3"),
    (r"video:DIR", "video:CLIPS --model.image 16 16 3"),
    (r"--frames 30", "--frames 4"),
    (r"--model.net.width 192 --model.net.depth 6", "--model.net.width 24 --model.net.depth 2"),
    (r"efficientnet_lite0", "lenet"),
    (r"fid_lenet,kid_lenet --count \d+", "fid_lenet,kid_lenet --count 90 --subset 8"),
    (r"(evaluate RUN --sampler mixture)", r"\1 --count 90 --real 90 --metrics fid_lenet"),
    (r"--count 64", "--count 8"),
    (r"--seeds 3", "--seeds 2"),
    (r"--subset 200", "--subset 8"),
    (r"(evaluate .*--metrics (?:fid|kid).*)", r"\1 --real 90"),
    (r"(evaluate .*--metrics fvd.*)", r"\1 --count 24 --real 24"),
    (r"--eval.every 1000", "--eval.every 2 --eval.count 90"),
    (r"--steps \d+", "--steps 2"),
    (r"steps=10", "steps=2"),
    (r"(--with deep-image-prior.*)", r"\1 --steps 2"),
    (r"(stylize photo.png --style starry.jpg$|stylize .*--masks.*)", r"\1 --steps 2"),
    (r"import (\S+)(.*) --out RUN", r"import \1\2 --out imported-\1"),
    (r"score RUN PATH", "score RUN digits"),
    (r"--by 32 64", "--by 4 8"),
    (r"--at 60,250", "--at 4,4"),
    (r"--side 256", "--side 32"),
    (r"(render (?:cornell|scene.json))", r"\1 --size 8x8 --samples 2"),
    (r"nerf:DIR --model.image 50 50 3", "nerf:SCENE --model.image 8 8 3"),
    (r"nerf:DIR", "nerf:SCENE"),
    (r"test\[:256\]", "test[:8]"),
    (r"--size 200x200", "--size 8x8"),
    (r"(render RUN)", r"\1 --frames 2"),
)
# The run that a command needs, by the first pattern that fits: a family, a preset and settings.
DIGITS = ("--data.source", "digits")
GAN, VAE = ("gan", "dcgan", *DIGITS), ("vae", "vae", *DIGITS)
FILLS = ("restoration", "gated-conv")
CLASSES = "--data.classes", "jumping", "running", "walking"
ACTIONS = ("--data.source", "mocap:TAKES", "--model.skeleton", "take.bvh", *CLASSES)
WORDS = ("<pad>", "<unknown>", *" abcdefghilnopqrstu")  # letters alone: "a triangle" is 11 of them
RUNS = (
    (r"runs/wavenet-digits|seven.wav|digits.png", ("audio", "wavenet-digits", "--data.source", "audio:SOUNDS")),
    (r"metrics snr", ("audio", "wavenet-vocoder", "--data.source", "audio:SOUNDS", "--data.held-out", "theo")),
    (r"--text|scene_accuracy", ("text_to_image", "text-flow", "--data.vocabulary", *WORDS)),
    (r"jaxgen render RUN", ("rendering", "hash-grid", "--data.source", "nerf:SCENE")),
    (r"guidance.*--action", ("motion", "mdm", *ACTIONS)),
    (r"--action", ("motion", "motion-vae", *ACTIONS)),
    (r"jaxgen capture|pa_mpjpe", ("motion", "capture-lstm", "--data.source", "actor:ACTORS")),
    (r"take.bvh|mpjpe", ("motion", "simlpe-cmu", "--data.source", "mocap:TAKES")),
    (r"jaxgen predict|predicted.gif|psnr_rgb$", ("video", "simvp-convmixer", "--data.source", "moving-digits")),
    (r"clips.gif", ("video", "mocogan")),
    (r"runs/video-vae", ("video", "video-vae")),
    (r"runs/action-net", ("video", "action-net")),
    (r"fvd_", ("video", "mocogan")),
    (r"runs/adm-classifier", ("classifier", "adm-classifier", *DIGITS)),
    (r"runs/vq-vae", ("vae", "vq-vae", *DIGITS)),
    (r"(teacher|generate|evaluate) runs/edm", ("diffusion", "edm", *DIGITS)),
    (r"runs/pixelcnn-gated|bpd_1\b", ("autoregressive", "pixelcnn-gated", *DIGITS)),
    (r"runs/realnvp|bpd_8\b", ("normalising_flow", "realnvp", *DIGITS)),
    (r"runs/dcgan", GAN),
    (r"runs/vae", VAE),
    (r"runs/resnet20", ("classifier", "resnet20", *DIGITS)),
    (r"runs/dncnn", ("restoration", "dncnn")),
    (r"runs/edsr", ("super_resolution", "edsr")),
    (r"runs/pix2pix", ("translation", "pix2pix")),
    (r"runs/mine", ("gan", "dcgan", *DIGITS)),
    (r"--labels 3,5 --truncation", ("gan", "stylegan2", *DIGITS, "--model.classes", "10")),
    (r"jaxgen mix", ("gan", "stylegan2", *DIGITS)),
    (r"jaxgen (interpolate|directions|project|traverse|export)|evaluate RUN --metrics (fid|kid)", GAN),
    (r"--sampling classifier", ("diffusion", "edm", *DIGITS)),
    (r"--sampling steps.*guidance", ("diffusion", "edm-conditional", *DIGITS, "--model.drop", "0.1")),
    (r"jaxgen (inpaint|upscale|edit)", ("diffusion", "edm", *DIGITS)),
    (r"jaxgen map RUN$", ("vae", "vae", *DIGITS, "--model.latent", "2")),
    (r"accuracy", ("classifier", "lenet5", *DIGITS)),
    (r"--sampler mixture|jaxgen (map|arithmetic|score|reconstruct)", VAE),
    (r"translate RUN photo.png --pair", ("translation", "pix2pix", "--data.pair", "edges")),
    (r"translate RUN tulip.png --to", ("translation", "cyclegan")),
    (r"translate RUN", ("translation", "pix2pix")),
    (r"stylize DIR", ("translation", "fast-style")),
    (r"--how harmonise", ("translation", "harmonisation")),
    (r"(stylize|compose)", ("translation", "adain")),
    (r"extend|--mask", FILLS),
    (r"restore|demo", ("restoration", "dncnn")),
)

BESIDE = "runs/adm-classifier", "runs/action-net"  # runs that a command reads beside RUN


def commands(page: Path) -> list[str]:
    """Return the commands of a page, without their comments."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        found += [bare for line in lines if (bare := re.sub(r"\s+#\s.*", "", line).strip())]
    return found


def python(page: Path) -> list[str]:
    """Return the Python code of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def smaller(command: str) -> list[str]:
    """Return a command's words after "python -m", at the size of a test."""
    for pattern, text in SMALLER:
        command = re.sub(pattern, text, command)
    words = shlex.split(command)
    assert words[:2] == ["python", "-m"], command
    words = words[2:]
    if words[0].startswith("train.") and not {"--list", "--help"} & set(words):
        words += [word for word in ("--tiny",) if word not in words]
        words += ["--log.samples", "0", *(() if "--steps" in words else ("--steps", "2"))]
        words += () if "--mesh.data" in words else ("--mesh.data", "1")
    return words


def run_for(command: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the folder of the run that a command reads, and how it is made; None where it reads none."""
    for pattern, made in RUNS:
        if match := re.search(pattern, command):
            named = re.search(r"(?<!--out )runs/[\w-]+", match[0])
            if named or "RUN" in command:
                return (named[0] if named else "RUN"), made
    return None


def furnish(folder: Path, data: Path):
    """Fill a folder with parts of real photographs under the names of the pages, and with sets of them."""
    photos = [
        Image.open(data / "photos" / name).convert("RGB") for name in ("astronaut.png", "coffee.png", "chelsea.png")
    ]
    part = lambda i, side=SIDE: photos[i % 3].crop((40 + 9 * i, 30, 40 + 9 * i + side, 30 + side))  # noqa: E731
    hole = np.zeros((SIDE, SIDE), np.uint8)
    hole[16:28, 20:30] = 255
    photographs = "photo.png photo.jpg sketch.png tulip.png street.jpg starry.jpg wave.jpg gravel.png IMAGE.png"
    for i, name in enumerate([*photographs.split(), "a.jpg", "b.jpg", "a.png", "b.png"]):
        part(i).save(folder / name)
    for name in ("mask.png", "hole.png", "MASK.png"):
        Image.fromarray(hole).save(folder / name)
    part(2, 24).save(folder / "cat.jpg")
    Image.fromarray(hole[10:34, 10:34]).save(folder / "cat-mask.png")
    cut = part(2, 24).convert("RGBA")
    cut.putalpha(Image.fromarray(hole[10:34, 10:34]))
    cut.save(folder / "cat.png")
    for name in ("DIR", "CLEAN", "DAISIES", "TULIPS", "PHOTOGRAPHS", "PAINTINGS", "PAIRS/A", "PAIRS/B"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            part(i).save(folder / name / f"{i}.png")
    for label in range(5):
        (folder / "FLOWERS" / str(label)).mkdir(parents=True)
        for i in range(3):
            part(i + label).save(folder / "FLOWERS" / str(label) / f"{i}.png")
    (folder / "SCENE").mkdir()
    posed(folder / "SCENE")
    page = (ROOT / "jaxgen/models/rendering/README.md").read_text("utf-8")
    (folder / "scene.json").write_text(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    for i, name in enumerate(("take.bvh", "TAKES/train/walk/1.bvh", "TAKES/test/walk/1.bvh")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(take(40, i))
    for name, body in (
        ("dance.bvh", SMPL),
        ("hero.bvh", DEEPMIMIC),
        ("ACTORS/train/a.bvh", SMPL),
        ("ACTORS/test/b.bvh", CMU),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(walking(body, 20))
    (folder / "SOUNDS").mkdir()
    for i in range(30):
        tone = np.sin(np.arange(2000) * (i + 1) / 40) * 8000
        wavfile.write(
            folder / "SOUNDS" / f"{i % 10}_{('nicolas', 'theo', 'ann')[i // 10]}.wav", 8000, tone.astype(np.int16)
        )
    (folder / "CAPTIONED").mkdir()
    for i, text in enumerate(("a man in space", "a cup of coffee", "a cat")):
        part(i).save(folder / "CAPTIONED" / f"{i}.png")
        (folder / "CAPTIONED" / f"{i}.txt").write_text(text)
    (folder / "prompts.txt").write_text("a red circle\na blue square\n")
    (folder / "CLIPS").mkdir()
    moving = [photos[0].crop((40 + 2 * i, 30, 72 + 2 * i, 62)) for i in range(30)]
    for path in (folder / "clip.gif", folder / "CLIPS" / "a.gif", folder / "CLIPS" / "b.gif"):
        moving[0].save(path, save_all=True, append_images=moving[1:], duration=100)
    for label in range(5):
        (folder / "KINDS" / str(label)).mkdir(parents=True)
        (folder / "KINDS" / str(label) / "a.gif").symlink_to(folder / "clip.gif")
    (folder / "TFDS").symlink_to(data / "tfds")
    (folder / "weights.pth").symlink_to(data / "weights" / "IMDN_x4.pth")
    (folder / "FILE").symlink_to(data / "weights" / "resnet20-12fca82f.th")
    for name in ("simple", "vardeq"):
        file = f"MNISTFlow_{name}.ckpt"
        (folder / file).symlink_to(data / "weights" / "flow_mnist" / file)
    (folder / "PixelCNN.ckpt").symlink_to(data / "weights" / "pixelcnn_mnist" / "PixelCNN.ckpt")
    (folder / "fast_style_wave.zip").symlink_to(data / "weights" / "fast_style_wave.zip")


def runs_of(folder: Path) -> Callable[[str], None]:
    """Return a function that makes the run that a command reads, if it is not there yet, and links RUN to it."""

    def make(command: str):
        for name in BESIDE:
            if name in command:
                make_one(name, dict(RUNS)[name])
        other = re.sub("|".join(BESIDE), "", command) if "RUN" in command else command
        if found := run_for(other):
            make_one(*found)

    def make_one(name: str, made: tuple[str, ...]):
        kept = folder / "kept" / "-".join(re.sub(r"\W+", "-", word) for word in made)
        if not kept.exists():
            untrained(kept, *made)
        link = folder / name
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(kept)

    return make
