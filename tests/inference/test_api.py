"""jaxgen.load and what it returns: the same answers as the commands, the same kind of images out as in."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxgen
from jaxgen import zoo
from jaxgen.core.capabilities import Classifier, Transform
from jaxgen.core.errors import InputError
from jaxgen.inference.model import Model
from jaxgen.pretrained import catalogue
from tests.helpers.photo_samples import pixels_of, save, smooth
from tests.helpers.running import ROOT
from tests.helpers.untrained import untrained

RUNS = {
    "cgan": "gan",
    "cvae": "vae",
    "imdn": "super_resolution",
    "gated-conv": "restoration",
    "photo-repair": "restoration",
    "cyclegan": "translation",
    "fast-style-many": "translation",
    "lenet5": "classifier",
    "simvp": "video",
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Return preset -> the object of its tiny run, which is never trained; `opened.folder(preset)` is the run."""
    root, found = tmp_path_factory.mktemp("runs"), {}

    def model(preset: str) -> Model:
        if preset not in found:
            found[preset] = jaxgen.load(untrained(root / preset, RUNS[preset], preset))
        return found[preset]

    model.folder = lambda preset: (model(preset), root / preset)[1]  # pyright: ignore
    return model


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """The events of programs that XLA compiled since."""
    events: list[str] = []

    def listen(event: str, duration_secs: float, **_):
        if "backend_compile" in event:
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)  # pyright: ignore


def test_the_package_is_light_until_a_model_is_loaded():
    text = "import sys, jaxgen; n = len(jaxgen.models()); print(n, {'jax', 'numpy'} & set(sys.modules), dir(jaxgen))"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.startswith(f"{len(zoo.ZOO)} set()") and "'load'" in done.stdout
    assert jaxgen.models("gan")["dcgan"] == "gan" and "imdn-x4" in jaxgen.weights()
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = jaxgen.lod  # pyright: ignore


def test_models_say_what_they_can(opened):
    assert opened("cgan").can == ("sample", "interpolate")
    assert opened("cvae").can == ("sample", "interpolate", "encode", "decode", "log_prob")
    assert opened("imdn").can == opened("gated-conv").can == ("restore",)
    assert opened("cyclegan").can == ("translate",) and opened("fast-style-many").can == ("stylize",)
    assert "(cgan, step 20): sample, interpolate>" in repr(opened("cgan"))
    with pytest.raises(InputError, match=r"can't restore images. It can draw samples \(sample\), walk"):
        opened("cgan").restore(smooth(8, 8))
    with pytest.raises(ValueError, match="did you mean 'imdn-x"):
        jaxgen.load("imdn-x5")
    with pytest.raises(InputError, match=r"enlarges by .*, not by 7"):
        opened("imdn").restore(smooth(8, 8), scale=7)
    with pytest.raises(InputError, match="gated-conv needs mask"):
        opened("gated-conv").restore(smooth(32, 32))


def test_samples_are_those_of_generate(opened, tmp_path, cli):
    cli(0, "generate", opened.folder("cgan"), "--count", "16", "--batch", "16", "--out", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        theirs = arrays["image"]
    ours = opened("cgan").sample(16, seed=0, form="uint8")
    assert (
        ours.shape == theirs.shape and np.abs(ours.astype(int) - theirs).max() <= 1 and (ours == theirs).mean() > 0.99
    )
    few = opened("cgan").sample(3, seed=0)
    np.testing.assert_allclose(few, opened("cgan").sample(16)[:3], atol=1e-5)
    one = opened("cgan").sample(1, seed=0, labels=["0"], form="pil")
    np.testing.assert_array_equal(np.asarray(one[0]), ours[0, ..., 0])
    assert np.abs(few - opened("cgan").sample(3, seed=1)).max() > 1e-3


def test_a_walk_begins_and_ends_at_samples(opened):
    model = opened("cgan")
    way = model.interpolate(0, 2, frames=5, labels=1)
    ends = model.sample(3, labels=1)[[0, 2]]
    np.testing.assert_allclose(way[[0, -1]], ends, atol=1e-5)
    assert np.abs(np.diff(way, axis=0)).max((1, 2, 3)).min() > 0


def test_images_are_restored_as_the_command_does(opened, tmp_path, cli):
    x = smooth(50, 61, 4)
    image = save(tmp_path / "a.png", x)
    cli(0, "restore", image, "--with", opened.folder("imdn"), "--tile", "32", "--overlap", "8")
    theirs, model = pixels_of(tmp_path / "a-restored.png"), opened("imdn")
    rest = {"tile": 32, "overlap": 8}
    np.testing.assert_array_equal(model.restore(x, **rest), theirs)
    with Image.open(image) as opened_image:
        made = model.restore(opened_image, **rest)
    assert made.mode == "RGBA" and np.array_equal(np.asarray(made), theirs)


def test_what_goes_in_comes_out(opened):
    model, x = opened("imdn"), smooth(9, 12)
    floats = x.astype(np.float32) / 127.5 - 1
    made = model.restore(x)
    batch = model.restore(np.stack([x, x[::-1]]))
    assert made.dtype == np.uint8 and batch.shape == (2, *made.shape) and np.array_equal(batch[0], made)
    listed = model.restore([Image.fromarray(x), x])
    assert isinstance(listed[0], Image.Image) and np.array_equal(np.asarray(listed[0]), made)
    for given in (jnp.asarray(floats), jnp.asarray(floats)[None].astype(jnp.float16)):
        answer = model.restore(given)
        assert isinstance(answer, jax.Array) and answer.dtype == given.dtype and answer.ndim == given.ndim
    np.testing.assert_allclose(model.restore(floats), made / 127.5 - 1, atol=0.5 / 127.5 + 1e-5)
    deep = model.restore((x.astype(np.uint16) * 257)[..., :1])
    assert deep.dtype == np.uint16 and deep.shape == (*made.shape[:2], 1)
    assert model.restore(x[..., 0]).shape == made.shape[:2]
    programs = model._made["restore", None, None].programs
    assert len([shapes for shapes in programs if shapes[0][1] == (1, *x.shape)]) == 1, "one for each size"


def test_a_second_call_of_a_size_compiles_nothing(opened, compiled):
    model = opened("cvae")
    x = np.zeros((3, *model.task.example["image"].shape), np.float32)
    work = lambda: (model.sample(4), model.decode(model.encode(x, 1), 1), model.log_prob(x, 1, samples=2))  # noqa: E731
    first = work()
    count = len(compiled)
    assert count > 0
    again = work()
    assert len(compiled) == count and all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_holes_are_filled_and_the_rest_stays(opened):
    x, hidden = smooth(32, 40), np.zeros((32, 40), bool)
    hidden[10:20, 5:25] = True
    made = opened("gated-conv").restore(Image.fromarray(x), mask=Image.fromarray(hidden))
    assert np.array_equal(np.asarray(made)[~hidden], x[~hidden])
    np.testing.assert_array_equal(opened("gated-conv").restore(x, mask=hidden), made)
    for mask, words in ((hidden[:9], "must have the same size"), (np.zeros_like(hidden), "all black")):
        with pytest.raises(InputError, match=words):
            opened("gated-conv").restore(x, mask=mask)


def test_translation_and_style_are_those_of_the_commands(opened, tmp_path, cli):
    x = smooth(21, 30)
    image = save(tmp_path / "a.png", x)
    cli(0, "translate", opened.folder("cyclegan"), image, "--to", "source")
    theirs = pixels_of(tmp_path / "a-translated.png")
    np.testing.assert_array_equal(opened("cyclegan").translate(x, "source"), theirs)
    cli(0, "stylize", image, "--with", opened.folder("fast-style-many"), "--style", "waves", "--strength", "0.5")
    theirs = pixels_of(tmp_path / "a-stylized.png")
    np.testing.assert_array_equal(opened("fast-style-many").stylize(x, "waves", strength=0.5), theirs)


def test_frames_are_predicted_as_the_command_does(opened, tmp_path, cli):
    """Of frames of another size than the model's, and more than it predicts at once."""
    (tmp_path / "clip").mkdir()
    frames = np.stack([smooth(20, 24, seed=i) for i in range(3)])
    for i, frame in enumerate(frames):
        save(tmp_path / "clip" / f"{i}.png", frame)
    cli(0, "predict", opened.folder("simvp"), tmp_path / "clip", "--frames", 4, "--out", tmp_path / "out.npz")
    made = opened("simvp").predict(frames, 4)
    np.testing.assert_array_equal(made, np.load(tmp_path / "out.npz")["future"])
    assert made.shape == (4, 16, 16, 1) and made.dtype == np.uint8
    with pytest.raises(InputError, match="simvp predicts from 2 frames, not from 1\\."):
        opened("simvp").predict(frames[:1])


def test_the_functions_below_give_the_same(opened):
    model = opened("lenet5")
    x = np.zeros((2, *model.task.example["image"].shape), np.float32)
    params, context = model.nets
    logits = model.task.get(Classifier).classify(params, context, {"image": jnp.asarray(x)})["logits"]
    np.testing.assert_allclose(model.classify(x), logits, rtol=1e-5, atol=1e-5)
    assert set(model.classify(x, features=True)) > {"logits"}
    large = Image.fromarray(smooth(50, 60))
    assert model.classify(large).shape == (1, 10)  # brought to its size
    with pytest.raises(InputError, match="takes images of 28x28x1, not of 9x9x1"):
        model.classify(np.zeros((9, 9), np.float32))
    assert model.task.find(Transform) is None


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_saved_weights_are_loaded_again(opened, tmp_path, ending):
    path, model = tmp_path / f"cvae{ending}", opened("cvae")
    jaxgen.save(model, path)
    with pytest.raises(InputError, match="exists"):
        jaxgen.save(model, path)
    if ending == ".pth":  # it does not state its model, and the preset is larger
        with pytest.raises(InputError, match="doesn't fit cvae"):
            jaxgen.load(path, "cvae")
        return
    again = jaxgen.load(path)
    assert again.can == model.can and again.preset == "cvae"
    np.testing.assert_array_equal(again.sample(4), model.sample(4))


@pytest.fixture
def shipped(opened, tmp_path, monkeypatch):
    """A folder of shipped weights with a net of each of some kinds, in the place of the package's own."""
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path / "weights")
    (tmp_path / "weights").mkdir()
    for preset, name in {
        "imdn": "enlarge-x2",
        "gated-conv": "fill",
        "photo-repair": "repair",
        "cgan": "emoji",
        "fast-style-many": "styles",
        "cyclegan": "other-style",
    }.items():
        jaxgen.save(opened(preset), tmp_path / "weights" / f"{name}.safetensors")
    return tmp_path


def test_shipped_weights_are_taken_by_what_they_are_for(shipped, opened, cli):
    x = smooth(32, 40)
    image, hidden = save(shipped / "a.png", x), np.zeros((32, 40), np.uint8)
    hidden[8:16, 8:20] = 255
    mask = save(shipped / "mask.png", hidden[..., None])
    for arguments, done, known, more in (
        (("--scale", "2"), "enlarged-x2", "imdn", {}),
        (("--repair",), "repaired", "photo-repair", {}),
        (("--fill", mask), "filled", "gated-conv", {"mask": hidden}),
    ):
        cli(0, "restore", image, *arguments)
        made = pixels_of(shipped / f"a-{done}.png")
        np.testing.assert_array_equal(opened(known).restore(x, **more), made)
    assert jaxgen.load("repair").can == ("restore",) and "enlarge-x2" in jaxgen.weights()
    cli(0, "generate", "emoji", "--count", "4", "--batch", "8", "--out", shipped / "x.npz")
    with np.load(shipped / "x.npz") as arrays:
        assert np.abs(arrays["image"].astype(int) - opened("cgan").sample(4, form="uint8")).max() <= 1
    cli(0, "interpolate", "emoji", "--points", "2", "--frames", "2", "--out", shipped / "walk.gif")
    with Image.open(shipped / "walk.gif") as walk:
        assert getattr(walk, "n_frames", 1) == 4
    cli(0, "translate", "other-style", image)
    np.testing.assert_array_equal(pixels_of(shipped / "a-translated.png"), opened("cyclegan").translate(x))
    cli(0, "stylize", image, "--style", "dots")
    np.testing.assert_array_equal(pixels_of(shipped / "a-stylized.png"), opened("fast-style-many").stylize(x, "dots"))


REFUSALS = {
    "restore a.png": "Name what to do: --scale 4, --repair or --fill MASK; or a model: --with.",
    "restore a.png --scale 2 --fill m.png": "No model does --fill and --scale 2 at once: run restore once for each",
    "restore a.png --scale 2.5": "The shipped weights enlarge by 2, 3 or 4, not by 2.5",
    "restore a.png --scale 4": "(preset imdn) and name the run with --with, or write --with imdn-x4",
    "restore a.png --colourise": "No weights for --colourise ship with this version: train some (preset nafnet-c",
    "restore a.png --mask m.png": "--mask is for --with: write --fill m.png",
    "restore a.png --with bicubic --deblur": "--deblur takes the shipped weights, and --with names others",
    "restore a.png --with nearest --fill m.png --mask m.png": "--fill names the mask: leave out --mask",
    "stylize a.png --style wave": "There is no style image wave; the styles of shipped weights are checks, dots, waves",
    "translate other-style a.png --pair": "other-style is no run's folder: leave it out",
    "translate emoji a.png": "emoji is of cgan, which is no translation model",
    "interpolate other-style": "come from no latent vector",
    "generate emojis": "did you mean 'emoji'?",
}


def test_what_no_weights_do_gets_one_sentence(shipped, cli, monkeypatch):
    monkeypatch.chdir(shipped)
    save(Path("a.png"), smooth(16, 16))
    for command, words in REFUSALS.items():
        said = cli(2, *command.split())
        assert words in said, (command, said)


@pytest.mark.parametrize(
    "given, words",
    [
        ("a.png", "a NumPy or JAX array or a Pillow image, not a str: Image.open"),
        (np.zeros((4, 4, 5), np.uint8), "1 to 4 channels last, not [4, 4, 5]"),
        (np.zeros((4, 4, 3), np.int64), "uint8 or uint16, or floats in [-1, 1], not int64"),
        (np.full((4, 4, 3), 200.0), "must be in [-1, 1], not 200 to 200: x / 127.5 - 1"),
        (np.full((4, 4, 3), np.nan), "infinite or no numbers"),
        (np.zeros((4, 4, 4), np.float32), "alpha is for uint8 and uint16"),
        ([], "one image or more"),
        (Image.new("F", (4, 4)), "mode F has no known black and white"),
    ],
)
def test_what_is_no_image_gets_one_sentence(given, words):
    with pytest.raises(InputError) as error:
        jaxgen.load("nearest").restore(given)
    assert words in str(error.value)
