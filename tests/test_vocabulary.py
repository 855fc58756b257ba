"""The rooms that are done use the field's terms: in comments, docstrings, messages, help and identifiers."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each word and the term to use instead. They are whole words, also within an identifier such as `is_told`.
BANNED = {
    r"told|tell(?:s|er|ers|ing)?": "conditioning, inputs, predict_x0; shows, says",
    r"mend(?:s|ed|er|ing)?": "restore, restored",
    r"bettered|betters": "improved",
    r"trunks?": "backbone",
    r"verdicts?": "result, decision, decode_check",
    r"coders?": "autoencoder",
    r"wish(?:es)?": "style request, setting",
    r"lessons?": "training pair",
    r"players?": "discriminator and generator, task",
    r"halvings?": "stride-2 downsampling stages",
    r"pictures?": "image",
    r"how often an? (?:net|network)": "number of stages, number of function evaluations",
    r"evaluations of the net": "NFE, function evaluations",
}
TERMS = list(BANNED.values())
ANY = re.compile(rf"\b(?:{'|'.join(f'({pattern})' for pattern in BANNED)})\b", re.IGNORECASE)
# A docstring says what something is or returns.
OPENINGS = re.compile(r"(?:Who|Whose|Whom|What|Which|How|Where|Why|When)\b")

# The rooms that are done, each with the words that it may still use.
PACKAGE: dict[str, tuple[str, ...]] = {
    "jaxgen/core": (),
    "jaxgen/runs": ("trunk", "halvings", "halving"),  # in the table of renamed settings
    "jaxgen/training": (),
    "jaxgen/evaluation": (),
    "jaxgen/inference": (),
    "jaxgen/interop": ("tell",),  # of a file
    "jaxgen/pretrained": (),
    "jaxgen/nn": (),
    "jaxgen/diffusion": (),
    "jaxgen/losses": (),
    "jaxgen/metrics": (),
    "jaxgen/data": (),
    "jaxgen/media": (),
    "jaxgen/rendering": (),
    "jaxgen/commands": (),
    "jaxgen/__main__.py": (),
    "train": (),
    "jaxgen/models/autoregressive": (),
    "jaxgen/models/classifier": (),
    "jaxgen/models/diffusion": (),
    "jaxgen/models/gan": (),
    "jaxgen/models/vae": ("told",),  # in the names of IAF's parameters, which saved runs have
    "jaxgen/tasks/ada_augmentation.py": (),
    "jaxgen/tasks/adversarial.py": (),
    "jaxgen/tasks/adversarial_config.py": (),
    "jaxgen/tasks/classification.py": (),
    "jaxgen/tasks/denoising.py": (),
    "jaxgen/tasks/diff_augmentation.py": (),
    "jaxgen/tasks/frozen_autoencoder.py": (),
    "jaxgen/tasks/latent_diffusion.py": (),
    "jaxgen/tasks/teacher.py": (),
    "jaxgen/tasks/transforms.py": (),
    "jaxgen/tasks/autoregressive.py": (),
    "jaxgen/models/normalising_flow": (),
    "jaxgen/models/rendering": (),
    "jaxgen/models/restoration": (),
    "jaxgen/models/text_to_image": (),
    "jaxgen/models/super_resolution": ("trunk",),  # names of weights
    "jaxgen/models/translation": (),
    "jaxgen/tasks/hole_filling.py": (),
    "jaxgen/tasks/paired_translation.py": (),
    "jaxgen/tasks/patch_discriminators.py": (),
    "jaxgen/tasks/restoration.py": ("lesson",),  # in a stream's name, which is a part of the key
    "jaxgen/tasks/style_transfer.py": (),
    "jaxgen/tasks/unpaired_translation.py": (),
    "jaxgen/tasks/view_synthesis.py": (),
}
TESTS: dict[str, tuple[str, ...]] = {
    "tests/conftest.py": (),
    "tests/test_budget.py": (),
    "tests/test_imports.py": (),
    "tests/test_install.py": (),
    "tests/test_kinds.py": (),
    "tests/test_notebooks.py": (),
    "tests/test_zoo.py": (),
    "tests/toys": (),
    "tests/nn": (),
    "tests/rendering": (),
    "tests/diffusion": (),
    "tests/losses": (),
    "tests/metrics": (),
    "tests/data": (),
    "tests/media": (),
    "tests/commands": (),
    "tests/helpers": (),
    "tests/core": (),
    "tests/runs": ("trunk",),  # the older name of a setting
    "tests/interop": (),
    "tests/pretrained": (),
    "tests/inference": (),
    "tests/evaluation": (),
    "tests/training": (),
    "tests/models/autoregressive": (),
    "tests/models/classifier": (),
    "tests/models/diffusion": (),
    "tests/models/gan": (),
    "tests/models/vae": (),
    "tests/tasks/test_ada_augmentation.py": (),
    "tests/tasks/test_ada_augmentation_parity.py": (),
    "tests/tasks/test_adversarial.py": (),
    "tests/tasks/test_classifier_guidance.py": (),
    "tests/tasks/test_denoising.py": (),
    "tests/tasks/test_diff_augmentation.py": (),
    "tests/tasks/test_latent_diffusion.py": (),
    "tests/models/normalising_flow": (),
    "tests/models/rendering": (),
    "tests/models/restoration": (),
    "tests/models/text_to_image": (),
    "tests/models/super_resolution": ("trunk",),  # names of weights
    "tests/models/translation": (),
}
ROOMS = PACKAGE | TESTS


def files(room: str) -> list[Path]:
    found = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
    assert found, f"{room} has no files."
    return found


def offences(source: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """Return a line "number: word -> term" for each banned word of a Python file."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", source).replace("_", " ")  # isTold and is_told as "is Told"
    found = []
    for number, line in enumerate(words.splitlines(), 1):
        for match in ANY.finditer(line):
            if match[0].lower() not in allowed:
                found.append(f"{number}: {match[0]} -> {TERMS[(match.lastindex or 1) - 1]}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if OPENINGS.match(ast.get_docstring(node) or ""):
                number = getattr(node, "lineno", 1)
                found.append(f"{number}: a docstring opens with a question word -> what the thing is or returns")
            if isinstance(node, ast.ClassDef) and node.name == "Net":
                found.append(f"{node.lineno}: a class called Net -> the name of the architecture")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_use_the_terms_of_the_field(room):
    found = {file.relative_to(ROOT).as_posix(): offences(file.read_text(), ROOMS[room]) for file in files(room)}
    assert not (bad := {file: lines for file, lines in found.items() if lines}), bad


def test_every_kind_of_text_is_checked():
    source = (
        '"""What it is."""\n# a trunk\nisTold = f"mended {1} by"\n\n\nclass Net:\n    """A lesson\n    of coders."""\n'
    )
    assert [line.split(" -> ")[0] for line in offences(source)] == [
        "2: trunk",
        "3: Told",
        "3: mended",
        "7: lesson",
        "8: coders",
        "1: a docstring opens with a question word",
        "6: a class called Net",
    ]
    assert not offences("untold, encoder, commend = foretell, autoencoder, trunked")
    assert not offences("trunk = 1", ("trunk",))
