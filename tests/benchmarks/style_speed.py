"""Images painted in a style, beside PyTorch eager: python -m tests.benchmarks.style_speed [--write] [--rounds N]

A 512x512 image painted whole by the net of Johnson et al. and by AdaIN's encoder and decoder, its style image
512x512 too, each in one call; and Gatys et al. at 256x256 for 200 steps, a progress image written every ten. f32,
random weights but for the backbone (jaxgen[perceptual]). The other side's nets are those of the comparisons in
tests/models/translation/test_style_parity.py; turns.py says how they take turns. --steps shortens the last for a try.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import report, turns
from tests.helpers.capabilities import translate

FAST, ADAIN, GATYS = "Johnson 512x512", "AdaIN 512x512", "Gatys 256x256"
STEPS = 200


def published() -> Any:
    """Return the model whose weights are published."""
    from jaxgen import zoo

    return replace(zoo.load("fast-style").run.model, mirror=False)


def picture(side: int, seed: int) -> np.ndarray:
    """Return an image f32[side side 3] with something at every scale."""
    rng = np.random.default_rng(seed)
    noise = [np.kron(rng.uniform(-1, 1, (side // s, side // s, 3)), np.ones((s, s, 1))) / 3 for s in (1, 8, 64)]
    return sum(noise).astype(np.float32)  # pyright: ignore


def ours(name: str, steps: int) -> Callable[[], Any]:
    """Return what does the work once as jaxgen does, and waits for it."""
    import jax
    import jax.numpy as jnp

    from jaxgen import zoo
    from jaxgen.core.cache import use_compilation_cache
    from jaxgen.core.types import Context
    from jaxgen.pretrained import backbones

    use_compilation_cache()
    if name == GATYS:
        return ours_gatys(steps)
    model = published() if name == FAST else zoo.load("adain").run.model
    task = model.task(1)
    params, extra = jax.jit(lambda: task.init(jax.random.key(0), {}))()
    frozen = {} if name == FAST else {"backbone": backbones.load("vgg16")}
    context, given = Context(extra, {}, frozen, jnp.zeros((), jnp.int32)), {"source": picture(512, 0)[None]}
    given |= {} if name == FAST else {"style": picture(512, 1)[None]}
    paint, to = jax.jit(translate(task)), jnp.zeros(1, jnp.int32)
    return lambda: jax.block_until_ready(paint(params, context, given, None, to))


def ours_gatys(steps: int) -> Callable[[], Any]:
    from jaxgen.inference import stylization
    from jaxgen.media import photo
    from jaxgen.media.image_grid import save_png
    from jaxgen.media.marks import EDITED, Mark
    from jaxgen.models.translation.gatys import Gatys
    from jaxgen.pretrained import backbones

    content, styles = picture(256, 0), [picture(256, 1)]
    stylist = stylization.IterativeStylist(
        "gatys", stylization.StyleRequest(("s",)), Gatys(), backbones.load("vgg16"), styles, steps
    )
    path = Path(tempfile.mkdtemp()) / "progress.png"
    show = lambda at, total, canvas: save_png(path, photo.quantised(np.asarray(canvas), 8), Mark(EDITED))  # noqa: E731

    def paint():
        stylist.begin(content, 0, 1, False, None, show)
        return stylist.answer(content, (slice(0, 256), slice(0, 256)), None, show)

    return paint


def theirs(name: str, steps: int) -> Callable[[], Any]:
    """Return what does the same once in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    from jaxgen import zoo
    from tests.benchmarks.torch_gans import prepare
    from tests.models.translation import test_style_parity as reference

    prepare()
    if name == GATYS:
        return theirs_gatys(steps)
    x, style = (reference.nchw(picture(512, seed)) for seed in (0, 1))
    if name == FAST:
        import jax

        from jaxgen.interop.weight_names import rule_of, to_theirs
        from jaxgen.models.translation.fast_style import painter

        model = published()
        net, _ = painter(model)
        params = jax.device_get(net.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32)))
        tensors = to_theirs(rule_of("fast-style"), model, "painter", params)
        work = lambda: reference.fast_style(tensors, 127.5 * (x + 1))  # noqa: E731
    else:
        import jax

        model = zoo.load("adain").run.model
        params = jax.device_get(model.task(1).init(jax.random.key(0), {})[0])
        tensors = reference.backbone_tensors()
        work = lambda: reference.torch_adain(tensors, params, model, x, style)  # noqa: E731

    def paint():
        with torch.inference_mode():
            work()

    return paint


def theirs_gatys(steps: int) -> Callable[[], Any]:
    import torch  # pyright: ignore[reportMissingImports]

    from jaxgen.media import photo
    from jaxgen.media.image_grid import save_png
    from jaxgen.media.marks import EDITED, Mark
    from jaxgen.models.translation import gatys
    from tests.models.translation import test_style_parity as reference

    model, tensors = gatys.Gatys(), reference.backbone_tensors()
    content, style = (reference.nchw(picture(256, seed)) for seed in (0, 1))
    path = Path(tempfile.mkdtemp()) / "progress.png"

    def paint():
        canvas = content.clone().requires_grad_()
        adam = torch.optim.Adam([canvas], lr=model.learning_rate)
        wanted = reference.torch_targets(tensors, model, content, style)  # once, as on our side
        for step in range(1, steps + 1):
            adam.zero_grad()
            reference.torch_loss(tensors, model, canvas, wanted).backward()
            adam.step()
            if step % gatys.CHUNK == 0:
                save_png(path, photo.quantised(canvas.detach()[0].permute(1, 2, 0).numpy(), 8), Mark(EDITED))

    return paint


def sides(name: str, steps: int = STEPS) -> dict[str, Callable[[], Callable[[], Any]]]:
    return {f"jaxgen, {name}": partial(ours, name, steps), f"PyTorch, {name}": partial(theirs, name, steps)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        works = {k: v for name in (FAST, ADAIN, GATYS) for k, v in sides(name).items()}
        turns.work(works, sys.argv[2], repeats=1)
    elif sys.argv[1:2] == ["--try"]:  # once each, no turns: that it works, and how long about
        import time

        parser = argparse.ArgumentParser()
        parser.add_argument("--try", type=int, dest="steps")
        for name in (FAST, ADAIN, GATYS):
            for side, make in sides(name, parser.parse_args().steps).items():
                work = make()
                work()
                start = time.perf_counter()
                work()
                print(f"{side}: {time.perf_counter() - start:.2f} s", flush=True)
    else:
        wanted = report.arguments(__doc__, rounds=5)
        rows = []
        for name in (FAST, ADAIN, GATYS):
            rounds = min(wanted.rounds, 2) if name == GATYS else wanted.rounds
            rows += turns.measure("tests.benchmarks.style_speed", sides(name), rounds, 1, "work")
        report.publish("style-speed", rows, wanted.write)
