"""Sources of videos that are drawn by rule: moving-digits, moving-shapes, bouncing-balls; and the loading of clips."""

import hashlib
from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from jaxgen.core.config import Data
from jaxgen.core.spec import ArraySpec, label_spec
from jaxgen.data import batches, check_source, open_source
from jaxgen.data.bouncing_balls import BOX, RADIUS, SPEED, orbits, start
from jaxgen.data.draws import stream
from jaxgen.data.moving_digits import path
from jaxgen.data.moving_shapes import COLOURS, MOTIONS, read_labels
from jaxgen.data.shapes import SHAPES
from jaxgen.data.sources import clips_of
from tests.helpers.data_samples import REAL, equal_example, message, real


def clip(frames: int, side: int, channels: int, **more: int) -> dict[str, ArraySpec]:
    """Return an example of a video, or of several of `more` frames, and of labels."""
    parts = {name: ArraySpec("video", (t, side, side, channels)) for name, t in more.items()}
    return parts or {"video": ArraySpec("video", (frames, side, side, channels))}


@real
@pytest.mark.parametrize(
    ("count", "digest"),
    [
        (40, "3c9706644bd8c24a42dd31923797ed71f09553b668449ec8e926a1e44535b2b0"),
        # SHA-256 of OpenSTL's generator on MNIST, and the errors of the last frame as the prediction.
        pytest.param(1000, "d414c32c9161d28dd338d1ea334ee134d88c895a26a539cf1d0af4bcd9097fdb", marks=pytest.mark.slow),
    ],
)
def test_moving_digits_equal_openstl(count, digest):
    source = open_source(Data(f"moving-digits:{REAL}/mnist", split="test"))
    assert len(source) == 10_000
    clips = np.stack([source[i]["video"] for i in range(count)])
    assert clips.shape[1:] == (20, 64, 64, 1) and hashlib.sha256(clips.tobytes()).hexdigest() == digest
    if count == 1000:
        error = clips[:, 10:].astype(np.float64) / 255 - clips[:, 9:10] / 255
        squares = np.square(error).sum((2, 3, 4))
        found = squares.mean(), np.abs(error).sum((2, 3, 4)).mean(), (-10 * np.log10(squares / 4096)).mean()
        np.testing.assert_allclose(found, (281.187, 333.000, 11.8127), atol=6e-4)


def test_digits_move_straight_on_and_turn_back_at_the_borders():
    places = np.asarray(list(islice(path(0.5, 0.95, 0.3), 30)))
    steps = np.abs(np.diff(places, axis=0))
    inside = (places[1:] > 0).all(1) & (places[1:] < 1).all(1) & (places[:-1] > 0).all(1) & (places[:-1] < 1).all(1)
    np.testing.assert_allclose(steps[inside], [[0.1 * np.cos(0.3), 0.1 * np.sin(0.3)]] * inside.sum(), atol=1e-12)
    assert places.min() == 0 and places.max() == 1 and (~inside).sum() > 3


def test_balls_keep_their_energy_and_stay_in_the_box():
    places, speeds = start(stream(3))
    assert sum(abs(v) ** 2 for v in speeds) == pytest.approx(SPEED**2)
    orbit = np.asarray(list(islice(orbits(places, speeds), 400)), np.complex128)
    for part in (np.real(orbit), np.imag(orbit)):
        assert part.min() > RADIUS - SPEED and part.max() < BOX - RADIUS + SPEED
    free = np.abs(np.diff(orbit, axis=0)) ** 2  # two steps in one direction, or of which one is after a collision
    assert np.median(free.sum(1)) == pytest.approx(SPEED**2, rel=1e-9)
    frames = open_source(Data("bouncing-balls"), clip(6, 20, 1))[0]["video"]
    assert frames.shape == (6, 20, 20, 1) and frames.max() == 255
    mass = frames.astype(float).sum((1, 2, 3)) / 255 / (np.pi * (2 * RADIUS) ** 2 / 4)
    assert 0.7 < mass.min() / (3 * 4 * 0.906) < mass.max() / (3 * 4 * 0.906) < 1.1  # integral of exp(-s^4): 0.906


def test_shape_colour_and_motion_are_read_off_a_clip():
    source = open_source(Data("moving-shapes"), clip(8, 48, 3))
    assert source.classes == MOTIONS
    for i in range(0, 384, 11):
        example = source[i]
        assert read_labels(example["video"]) == {name: example[name] for name in ("shape", "colour", "motion")}, i
        assert example["label"] == example["motion"]
    all_of = {(e["shape"], e["colour"], e["motion"]) for e in (numbers(i) for i in range(384))}
    assert len(all_of) == len(SHAPES) * len(COLOURS) * len(MOTIONS)
    only = open_source(Data("moving-shapes", only="left"), clip(2, 16, 3))
    assert {only[i]["motion"] for i in range(3)} == {1}


def numbers(index: int) -> dict[str, int]:
    rest, motion = divmod(index, len(MOTIONS))
    return {"motion": motion, "shape": rest % len(SHAPES), "colour": rest // len(SHAPES) % len(COLOURS)}


def some(source, data, example, count, batch=4, **more):
    with closing(batches(source, data, example, batch=batch, **more)) as stream:
        return list(islice(stream, count))


def test_a_clip_is_a_function_of_seed_epoch_and_index():
    example = clip(0, 16, 1, past=3, future=2)
    data = Data("moving-digits")
    source = open_source(data, example)
    check_source(source, data, example)
    assert clips_of(source) == ("past", "future")
    first = some(source, data, example, 4, seed=1)
    assert first[0]["past"].shape == (4, 3, 16, 16, 1) and first[0]["future"].shape == (4, 2, 16, 16, 1)
    assert first[0]["past"].dtype == np.float32 and first[0]["past"].min() == -1
    by_eight = some(source, data, example, 2, batch=8, seed=1)
    assert np.array_equal(by_eight[1]["future"], np.concatenate([first[2]["future"], first[3]["future"]]))
    assert equal_example(some(source, data, example, 1, seed=1, start=3)[0], first[3])
    assert not np.array_equal(some(source, data, example, 1, seed=2)[0]["past"], first[0]["past"])
    # The held-out pass is in order and without randomness.
    held = open_source(data.at("test"), example)
    one, two = (some(held, data, example, 2, seed=seed, train=False) for seed in (0, 5))
    assert equal_example(one[1], two[1]) and np.array_equal(one[0]["past"][1], held[1]["past"] / np.float32(127.5) - 1)


def test_all_frames_of_a_clip_are_cropped_flipped_and_turned_alike():
    class Still:  # 4 frames of one image, larger than the model's
        classes, clips = (), ("video",)
        image = np.random.default_rng(0).integers(0, 256, (12, 18, 3), dtype=np.uint8)

        def __len__(self):
            return 6

        def __getitem__(self, index):
            return {"video": [self.image] * 4}

    example = clip(4, 8, 3)
    data = Data(crop="random", flip=True, turn=True, shift=2, grey=0.5)
    batch = some(Still(), data, example, 1, batch=6, seed=0)[0]["video"]  # pyright: ignore[reportArgumentType]
    assert batch.shape == (6, 4, 8, 8, 3) and (batch == batch[:, :1]).all()
    assert len({x.tobytes() for x in batch}) == 6
    assert (batch == batch[..., :1]).all((1, 2, 3, 4)).any() and not (batch == batch[..., :1]).all()


def test_wrong_models_and_sources_are_named():
    message(lambda: open_source(Data("moving-shapes:x")), "takes no name or path")
    message(lambda: open_source(Data("bouncing-balls", split="val")), "split of bouncing-balls")
    message(lambda: open_source(Data("moving-digits:/no/such")), "/no/such")
    two = {"a": ArraySpec("video", (2, 8, 8, 1)), "b": ArraySpec("video", (2, 8, 4, 1))}
    message(lambda: open_source(Data("moving-digits"), two), "frames of one size")
    message(lambda: open_source(Data("moving-digits"), {"video": ArraySpec("video", ("t", 8, 8, 1))}), "needs numbers")
    image = {"image": ArraySpec("image", (8, 8, 1))}
    message(lambda: check_source(open_source(Data("moving-digits"), image), Data(), image), "needs 'image'")
    labelled = {**clip(2, 8, 1), "label": label_spec(10)}
    message(lambda: check_source(open_source(Data("moving-digits"), labelled), Data(), labelled), "'label'")


def test_a_split_may_be_a_part_of_one():
    whole, some = (open_source(Data("moving-shapes", split=name), clip(4, 16, 3)) for name in ("test", "test[10:14]"))
    assert len(some) == 4 and all(equal_example(some[i], whole[10 + i]) for i in range(4))
    assert some.classes == whole.classes and clips_of(some) == clips_of(whole)
    assert "holds nothing: test has 1,000 examples" in message(
        lambda: open_source(Data("moving-shapes", split="test[1000:]"), clip(4, 16, 3))
    )
