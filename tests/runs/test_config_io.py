"""Settings and flags with older names."""

import dataclasses
import json

import pytest

from jaxgen import zoo
from jaxgen.commands.parse import parse, renamed
from jaxgen.runs.config_io import from_json, to_json


@pytest.mark.parametrize("name", ["srgan", "adain", "vgg16-shift-tolerant"])
def test_a_run_saved_under_an_older_name_of_a_setting_opens(name):
    run = dataclasses.replace(zoo.load(name).tiny, preset=name)
    values = json.loads(to_json(run))
    group = values["model"]["game"] if name == "srgan" else values["model"]
    group["trunk"] = group.pop("backbone")
    assert from_json(json.dumps(values)) == run


def test_flags_of_older_names_are_understood():
    assert renamed(["--trunk", "trunk", "--model.game.trunk=trunk"]) == [
        "--backbone",
        "trunk",
        "--model.game.backbone=trunk",
    ]
    assert renamed(["--model.critic-width", "8"]) == ["--model.discriminator_width", "8"]
    command = parse("translation", ["--preset", "adain", "--model.trunk", "random"])
    assert command.run.model.backbone == "random"
