"""Sounds from files: rates, depths of samples, channels, windows, splits, classes, and what can't be used."""

import wave
import zipfile

import numpy as np
import pytest
from scipy.io import wavfile

from jaxgen import data
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec, label_spec
from jaxgen.data.audio_files import clipped_share, decode, resampled
from jaxgen.data.fingerprint import fingerprint
from jaxgen.data.open import open_source
from jaxgen.data.sounds import Sounds, starts

RATE = 8000


def tone(count: int = 4000, rate: int = RATE, pitch: float = 440.0, gain: float = 0.5) -> np.ndarray:
    """Return a sine f64[t]."""
    return gain * np.sin(2 * np.pi * pitch * np.arange(count) / rate)


def specs(length: int = 1000, classes: int = 0, rate: float = RATE):
    audio = {"audio": ArraySpec("audio", (length, 1), rate=rate)}
    return audio | ({"label": label_spec(classes)} if classes else {})


def opened(path, length: int = 1000, classes: int = 0, **settings) -> Sounds:
    found = open_source(Data(f"audio:{path}", **settings), specs(length, classes))
    assert isinstance(found, Sounds)
    return found


def write24(path, sound: np.ndarray):
    """Write 24-bit PCM by the standard library."""
    values = np.round(sound * (2**23 - 1)).astype("<i4")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(RATE)
        file.writeframes(values.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())


def test_every_depth_of_a_wav_is_the_same_sound(tmp_path):
    sound = tone()
    wavfile.write(tmp_path / "8.wav", RATE, np.round(sound * 127 + 128).astype(np.uint8))
    wavfile.write(tmp_path / "16.wav", RATE, np.round(sound * 32767).astype(np.int16))
    write24(tmp_path / "24.wav", sound)
    wavfile.write(tmp_path / "32.wav", RATE, np.round(sound * (2**31 - 1)).astype(np.int32))
    wavfile.write(tmp_path / "float.wav", RATE, sound.astype(np.float32))
    wavfile.write(tmp_path / "double.wav", RATE, sound)
    for name, error in (("8", 0.01), ("16", 1e-4), ("24", 1e-6), ("32", 1e-6), ("float", 1e-7), ("double", 1e-7)):
        found, rate = decode(tmp_path / f"{name}.wav", f"{name}.wav")
        assert rate == RATE and found.dtype == np.float32
        np.testing.assert_allclose(found, sound, atol=error)


def test_a_flac_is_the_same_sound_in_a_folder_and_in_an_archive(tmp_path):
    av = pytest.importorskip("av")
    values = np.stack([np.round(tone() * 32767), np.zeros(4000)]).astype(np.int16)  # stereo, the right side silent
    with av.open(str(tmp_path / "a.flac"), "w") as out:
        stream = out.add_stream("flac", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(values.T.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = RATE
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.write(tmp_path / "a.flac", "inside/a.flac")
    for path in (tmp_path / "a.flac", tmp_path / "b.zip"):
        source = opened(path)
        np.testing.assert_allclose(source[0]["audio"][:, 0], tone()[:1000] / 2, atol=1e-4)
    (tmp_path / "c.flac").write_bytes(b"fLaC and no more")
    with pytest.raises(InputError, match=r"c\.flac can't be read as FLAC"):
        opened(tmp_path / "c.flac")


def test_another_rate_is_resampled_without_aliases(tmp_path, capsys):
    low, high = tone(44_100, 44_100, 440), tone(44_100, 44_100, 6000)  # one second; 6 kHz is beyond half of the rate
    made = resampled((low + high).astype(np.float32), 44_100, RATE)
    assert len(made) == RATE
    np.testing.assert_allclose(made[100:-100], tone(RATE)[100:-100], atol=5e-3)
    wavfile.write(tmp_path / "a.wav", 44_100, low.astype(np.float32))
    assert len(opened(tmp_path / "a.wav", 8000)) == 1
    assert "1 of 1 sounds have another rate than the model's 8,000 Hz (44,100 Hz) and are resampled." in (
        capsys.readouterr().err
    )


def test_windows_follow_each_other_and_the_last_ends_with_the_sound(tmp_path):
    assert starts(2500, 1000) == [0, 1000, 1500] and starts(2000, 1000) == [0, 1000] and starts(10, 1000) == [0]
    sound = tone(2500).astype(np.float32)
    wavfile.write(tmp_path / "a.wav", RATE, sound)
    source = opened(tmp_path / "a.wav")
    assert len(source) == 3
    for i, start in enumerate((0, 1000, 1500)):
        np.testing.assert_array_equal(source[i]["audio"][:, 0], sound[start : start + 1000])
    assert not opened(tmp_path / "a.wav", 3000)[0]["audio"][2500:].any(), "silence after a short sound"
    source = opened(tmp_path / "a.wav", crop="random")
    window = source.draw(0, 7)["audio"][:, 0]
    assert any(np.array_equal(window, sound[start : start + 1000]) for start in range(1501))
    np.testing.assert_array_equal(window, source.draw(0, 7)["audio"][:, 0])
    assert not np.array_equal(window, source.draw(0, 8)["audio"][:, 0])


def test_what_does_not_fit_into_memory_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxgen.data.sounds.CACHE_BYTES", 5000)
    for i in range(3):
        wavfile.write(tmp_path / f"{i}.wav", RATE, tone(1000, pitch=100 * (i + 1)).astype(np.float32))
    source = opened(tmp_path)
    assert len(source._kept) == 1
    for i in range(3):
        np.testing.assert_allclose(source[i]["audio"][:, 0], tone(1000, pitch=100 * (i + 1)), atol=1e-6)


def test_names_give_classes_and_speakers_who_are_held_out(tmp_path):
    for i, name in enumerate(("7_ann_1", "7_ben_1", "3_ann_1", "3_ben_1")):
        wavfile.write(tmp_path / f"{name}.wav", RATE, tone(1000, pitch=200 + 100 * i).astype(np.float32))
    train, test = (opened(tmp_path, classes=2, held_out="ben", split=split) for split in ("train", "test"))
    assert train.classes == test.classes == ("3", "7") and list(train.lengths) == ["3_ann_1.wav", "7_ann_1.wav"]
    assert [test[i]["label"] for i in range(2)] == [0, 1] and list(test.lengths) == ["3_ben_1.wav", "7_ben_1.wav"]
    assert opened(tmp_path, parts=(2,)).classes == ("ann", "ben")
    assert opened(tmp_path, parts=(1, 2)).classes == ("3_ann", "3_ben", "7_ann", "7_ben")
    assert opened(tmp_path, parts=(4,)).classes == ()
    assert fingerprint(train) != fingerprint(test)
    with pytest.raises(InputError, match="has eva in its name"):
        opened(tmp_path, held_out="eva")
    with pytest.raises(InputError, match="holds out all sounds"):
        opened(tmp_path, held_out="ann,ben")


def test_folders_are_classes_and_splits(tmp_path):
    for name in ("train/cat/a", "train/dog/b", "test/cat/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(tmp_path / f"{name}.wav", RATE, tone(1000).astype(np.float32))
    source = opened(tmp_path, classes=2)
    assert source.classes == ("cat", "dog") and source.labels == [0, 1] and len(source) == 2
    assert len(opened(tmp_path, split="test")) == 1
    with pytest.raises(InputError, match="has folders for its splits"):
        opened(tmp_path, held_out="cat")


BAD = {
    "empty.wav": (b"", "can't be read as WAV"),
    "text.wav": (b"no sound at all, but text", "can't be read as WAV"),
    "short.wav": (None, "can't be read as WAV"),
    "zero.wav": (np.zeros(0, np.int16), "has no samples"),
    "silent.wav": (np.full(1000, 300, np.int16), "is silent: remove it, or add --data.skip-bad"),
    "nan.wav": (np.full(1000, np.nan, np.float32), "not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cant_be_used_is_named_or_skipped(name, tmp_path, capsys):
    content, sentence = BAD[name]
    wavfile.write(tmp_path / "good.wav", RATE, tone().astype(np.float32))
    if content is None:
        content = (tmp_path / "good.wav").read_bytes()[:600]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        wavfile.write(tmp_path / name, RATE, content)
    with pytest.raises(InputError, match=sentence) as error:
        opened(tmp_path)
    assert name in str(error.value)
    assert len(opened(tmp_path, skip_bad=True)) == 4
    assert f"Skipped 1 of 2 sounds ({tmp_path}/{name}" in capsys.readouterr().err.replace(", ", "/")


def test_clipping_is_reported_and_a_place_without_sounds_refused(tmp_path, capsys):
    loud = np.clip(tone(gain=2.0), -1, 1)
    assert clipped_share(loud) > 0.5 and clipped_share(tone(gain=1.0)) < 0.005
    wavfile.write(tmp_path / "loud.wav", RATE, (loud * 32767).astype(np.int16))
    opened(tmp_path)
    assert "1 of 1 sounds are clipped, and a model of them clips as well: loud.wav." in capsys.readouterr().err
    (tmp_path / "note.txt").write_text("no sound")
    with pytest.raises(InputError, match=r"note\.txt is no sound"):
        opened(tmp_path / "note.txt")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no sounds"):
        opened(tmp_path / "none")
    with pytest.raises(InputError, match="no file or folder"):
        opened(tmp_path / "absent")


def test_spoken_digits_have_labels_and_speakers(real_data):
    path = real_data / "fsdd" / "fsdd_360.zip"
    train, test = (opened(path, 6400, 10, held_out="nicolas,theo", split=split) for split in ("train", "test"))
    assert train.classes == tuple("0123456789") and (len(train.lengths), len(test.lengths)) == (240, 120)
    assert not any("theo" in name or "nicolas" in name for name in train.lengths)
    settings = Data(f"audio:{path}", held_out="nicolas,theo")
    batches = data.batches(train, settings, specs(6400, 10), batch=8, seed=0)
    first = next(batches)
    batches.close()
    assert first["audio"].shape == (8, 6400, 1) and first["label"].shape == (8,)
    assert 0.001 < np.abs(first["audio"]).max() <= 1
