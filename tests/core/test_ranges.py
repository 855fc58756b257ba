"""Types and ranges of settings: the same from the command line, from --sampling and from config.json."""

import json
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import pytest

from jaxgen import zoo
from jaxgen.commands.parse import parse
from jaxgen.core.config import validate
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay, Positive, Range, Share, Signed, check_settings
from jaxgen.runs.config_io import from_json, resampled, to_json


@dataclass(frozen=True)
class Inner:
    """Settings in a group."""

    rate: float = 0.1
    pair: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Settings:
    """Settings of each type; the first ones say nothing of their range, as a new setting may."""

    number: int = 3
    real: float = 0.5
    flag: bool = False
    word: str = "x"
    kind: Literal["a", "b"] = "a"
    version: Literal[4, 5] = 4
    maybe: float | None = None
    many: tuple[int, ...] = ()
    count: Count = 1
    share: Share = 1
    decay: Decay = 0.0
    positive: Positive = 1e-9
    signed: Signed = -1e9
    open: Annotated[float, Range(0, 1, True, True)] = 0.5
    sides: tuple[Count, Count] = (1, 1)
    inner: Inner = field(default_factory=Inner)


def test_ends_of_the_ranges_are_accepted():
    check_settings(Settings())
    check_settings(Settings(number=2**31 - 1, real=1, maybe=0.0, many=(0, 5), decay=0.999, share=0))


NAN, LARGE = float("nan"), 2**31


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"number": -1}, "number must be at least 0, not -1"),
        ({"number": LARGE}, "number must be at most 2147483647, not 2147483648"),
        ({"number": 2.0}, "number must be a whole number, not 2.0"),
        ({"number": True}, "number must be a whole number, not True"),
        ({"number": None}, "number must be a whole number, not None"),
        ({"real": NAN}, "real must be a finite number, not nan"),
        ({"real": float("inf")}, "real must be a finite number, not inf"),
        ({"real": 10**400}, "real must be a finite number"),
        ({"real": -0.1}, "real must be at least 0, not -0.1"),
        ({"real": "1"}, "real must be a number, not '1'"),
        ({"flag": 1}, "flag must be true or false, not 1"),
        ({"word": 3}, "word must be text, not 3"),
        ({"kind": "c"}, "Unknown kind 'c'"),
        ({"kind": ["a"]}, "kind"),
        ({"version": 4.0}, "version must be one of 4, 5|Unknown version '4.0'"),
        ({"maybe": NAN}, "maybe must be a finite number"),
        ({"many": (1, -1)}, "many must be at least 0, not -1"),
        ({"many": 3}, "many must be values, not 3"),
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"share": 1.01}, "share must be from 0 to 1, not 1.01"),
        ({"decay": 1}, "decay must be at least 0 and below 1, not 1"),
        ({"positive": 0.0}, "positive must be above 0, not 0.0"),
        ({"signed": -float("inf")}, "signed must be a finite number, not -inf"),
        ({"open": 0}, "open must be above 0 and below 1, not 0"),
        ({"sides": (1, 0)}, "sides must be at least 1, not 0"),
        ({"sides": (1,)}, r"sides must be 2 values, not \(1,\)"),
        ({"inner": 5}, "inner must be a group of settings, not 5"),
        ({"inner": Inner(rate=NAN)}, "inner.rate must be a finite number"),
        ({"inner": Inner(pair=(0.0, NAN))}, "inner.pair must be a finite number"),
    ],
)
def test_what_is_outside_is_refused_by_name(values, words):
    with pytest.raises(InputError, match=words):
        check_settings(replace(Settings(), **values))


EVERYWHERE = {
    "optim.clip": (NAN, "a finite number, not nan"),
    "optim.ema": (1.5, "at least 0 and below 1, not 1.5"),
    "model.learning_rate": (-0.1, "at least 0, not -0.1"),
    "data.threads": (10**6, "from 1 to 1024, not 1000000"),
    "model.sampling.steps": (2**40, "at most 2147483647"),
}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_the_command_line_and_a_saved_run_are_checked_alike(name):
    value, words = EVERYWHERE[name]
    words = f"{name} must be {words}"
    flag = f"--{name.replace('_', '-')}={value}"
    with pytest.raises(InputError, match=words):
        validate(parse("diffusion", ["--preset", "edm", "--tiny", flag]).run)
    values = json.loads(to_json(replace(zoo.load("edm").tiny, preset="edm")))
    *groups, last = name.split(".")
    inner = values
    for group in groups:
        inner = inner[group]
    inner[last] = value
    with pytest.raises(InputError, match=words):
        from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps=0", "sampling.steps must be at least 1, not 0"),
        ("guidance=nan", "sampling.guidance must be a finite number, not nan"),
        ("interval=0:inf", "sampling.interval must be a finite number, not inf"),
        ("rescale=1.5", "sampling.rescale must be from 0 to 1, not 1.5"),
        ("grid=karas", "Unknown sampling.grid 'karas': did you mean 'karras'?"),
    ],
)
def test_settings_of_sampling_are_checked(text, words):
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        resampled(zoo.load("edm").tiny, text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": 5}, "Data must be a group of settings, not 5"),
        ({"model": []}, "must be a group of settings, not "),
        ({"data": {"crop": "centre"}}, "Unknown data.crop 'centre': did you mean 'center'"),
        ({"steps": "many"}, "steps must be a whole number, not 'many'"),
        ({"preset": 5}, "not the configuration of a run|Unknown preset"),
    ],
)
def test_a_saved_run_of_wrong_types_is_refused(change, words):
    values = json.loads(to_json(replace(zoo.load("edm").tiny, preset="edm")))
    with pytest.raises(InputError, match=words):
        from_json(json.dumps({**values, **change}))
    with pytest.raises(InputError, match="not the configuration of a run"):
        from_json("[" * 100_000)
