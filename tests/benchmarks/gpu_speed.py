"""Training steps and answers in bf16 on one GPU, beside PyTorch: python -m tests.benchmarks.gpu_speed [--write]

A U-Net of ADM's form at the width and depth of EDM's for CIFAR-10, DiT-B/2 and DiT-XL/2 (noise, the denoiser's loss,
Adam and the moving average; one batch that stays in memory), and enlarging an image by IMDN, EDSR-baseline and RRDB.
PyTorch's nets are those of the comparisons marked parity, under autocast, in "channels last", eager; "compiled": by
torch.compile. All are made ready first; then they take turns, one at work at a time. TFLOP/s count the matrix products
and convolutions of the step as it is written, and the share is that of the chip's bf16 peak.
"""

import json
import math
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from jaxgen.evaluation.results import Result
from tests.benchmarks import report, turns
from tests.benchmarks.diffusion_step import edm_loss, flow_loss
from tests.helpers.capabilities import restore
from tests.helpers.operations import flops

PEAK = {"H100": 989.0, "H200": 989.0}  # TFLOP/s of dense bf16 products, by the vendor's datasheet
TURN, PATIENCE = 0.5, 100  # seconds of a turn, and that a side has to get ready
UNET, DIT_B, DIT_XL = "EDM U-Net, CIFAR-10", "DiT-B/2", "DiT-XL/2"
BATCHES = {UNET: 128, DIT_B: 128, DIT_XL: 32}  # images a step
SIDES = {"IMDN x4": 512, "EDSR-baseline x2": 512, "RRDB x4": 256}  # of the image that is enlarged
PRESETS = {"IMDN x4": ("imdn", 4), "EDSR-baseline x2": ("edsr", 2), "RRDB x4": ("rrdb", 4)}


def model_of(work: str) -> Any:
    from jaxgen import zoo
    from jaxgen.models.diffusion._nets import BackboneConfig

    if work in PRESETS:
        preset, scale = PRESETS[work]
        return replace(zoo.load(preset).run.model, scale=scale)
    if work == UNET:
        net = BackboneConfig("unet", 128, 4, 1, (2, 2, 2), (16,))
        return replace(zoo.load("edm").run.model, image=(32, 32, 3), net=net)
    net = BackboneConfig("dit", 768, 12, 12, patch=2) if work == DIT_B else BackboneConfig("dit", 1152, 28, 16, patch=2)
    return replace(zoo.load("sit").run.model, image=(32, 32, 4), classes=1000, net=net)


def ours(work: str) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return what does the work once, and waits for it; and the FLOPs and parameters of it."""
    import jax

    from jaxgen.core import cache
    from jaxgen.core.config import Compute, Mesh, Run
    from jaxgen.core.spec import spec_of
    from jaxgen.core.step import init_state, make_step
    from jaxgen.core.types import Context
    from jaxgen.runs import sharding
    from jaxgen.runs.load import build_task

    cache.use_compilation_cache()
    run = Run(model=model_of(work), batch=BATCHES.get(work, 1), compute=Compute("bf16"))
    task = build_task(run, sharding.make_mesh(Mesh(data=1)))
    if work in BATCHES:
        state = jax.eval_shape(lambda: init_state(task, jax.random.key(0), spec_of(task, run.batch)))
        program = jax.make_jaxpr(make_step(task))(state, spec_of(task, run.batch), {})
        count = sum(math.prod(x.shape) for x in jax.tree.leaves(state.params))
        return turns.step_of(run), {"flops": flops(program), "parameters": count}
    params, extra = task.init(jax.random.key(0), {})
    context, scale = Context(extra, {}, {}, jax.numpy.zeros((), int)), run.model.scale
    x, keys = jax.device_put(picture(SIDES[work])), jax.random.split(jax.random.key(0), 1)
    given = (params, context, {"degraded": x}, keys)
    program = jax.make_jaxpr(restore(task), static_argnums=4)(*given, scale)
    mend = jax.jit(restore(task), static_argnums=4)
    count = sum(x.size for x in jax.tree.leaves(params))
    return lambda: jax.block_until_ready(mend(*given, scale)), {"flops": flops(program), "parameters": count}


def picture(side: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, side, side, 3)).astype(np.float32)


def theirs(work: str, compiled: bool) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return what does the same once in PyTorch, and waits for it."""
    import torch  # pyright: ignore[reportMissingImports]

    from tests.models.super_resolution import test_super_resolution_parity
    from tests.nn import test_dit_parity

    torch.set_default_device("cuda")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    model, half = model_of(work), partial(torch.autocast, "cuda", torch.bfloat16)
    ready: Any = torch.compile if compiled else lambda net: net
    if work in SIDES:
        test_super_resolution_parity.MEAN = test_super_resolution_parity.MEAN.cuda()
        kinds = {"imdn": "TorchIMDN", "edsr": "edsr", "rrdb": "TorchRRDBNet"}
        net = getattr(test_super_resolution_parity, kinds[PRESETS[work][0]])(model)
        net = ready(net.eval().cuda().to(memory_format=torch.channels_last))
        x = torch.rand(1, 3, SIDES[work], SIDES[work]).to(memory_format=torch.channels_last)

        def enlarge():
            with torch.inference_mode(), half():
                net(x)
            torch.cuda.synchronize()

        return enlarge, {}
    height, width, channels = model.image
    batch = BATCHES[work]
    x0 = torch.rand(batch, channels, height, width) * 2 - 1
    if work == UNET:
        import jax

        from tests.nn.test_unet_parity import TorchUNet, named

        draw, shapes = np.random.default_rng(0), jax.eval_shape(lambda: model.init(jax.random.key(0)))
        arrays = named(jax.tree.map(lambda x: draw.normal(0, 0.02, x.shape).astype(np.float32), shapes[0]["denoiser"]))
        weights = {k: torch.tensor(v, requires_grad=True) for k, v in arrays.items()}
        x0 = x0.to(memory_format=torch.channels_last)
        net, parameters = ready(TorchUNet(model.module, weights).__call__), list(weights.values())
    else:
        places = test_dit_parity.places
        test_dit_parity.places = cache(lambda *given: places(*given).cuda())
        whole = test_dit_parity.TorchDiT(model.module, channels).cuda()
        net, parameters = ready(whole), list(whole.parameters())

    def halved(*given: Any) -> Any:
        with half():
            return net(*given).float()

    if work == UNET:
        loss = partial(edm_loss, model, halved, x0)
    else:
        loss = partial(flow_loss, model, halved, x0, torch.randint(model.classes, (batch,)))
    adam = torch.optim.Adam(parameters, lr=model.learning_rate, fused=True)
    average = [p.detach().clone() for p in parameters]

    def one():
        adam.zero_grad()
        loss().backward()
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
                average, [p.detach() for p in parameters], 1 - model.ema
            )
        torch.cuda.synchronize()

    return one, {}


def work(side: str):
    """Be one side: say what is known of it, then for every line on stdin how long the work takes, in seconds."""
    who, _, name = side.partition(", ")
    one, known = ours(name) if who == "jaxgen" else theirs(name, who.endswith("compiled"))
    for _ in range(4):
        one()
    print(json.dumps(known), flush=True)
    start = time.perf_counter()
    one()
    repeats = max(1, round(TURN / (time.perf_counter() - start)))
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(repeats):
            one()
        print((time.perf_counter() - start) / repeats, flush=True)


def measure(rounds: int) -> list[Result]:
    """Return the results of each work and each side of it that starts."""
    sides = [f"{who}, {name}" for name in (*BATCHES, *SIDES) for who in ("jaxgen", "PyTorch")]
    sides += [f"PyTorch compiled, {name}" for name in BATCHES]
    command, pipe = [sys.executable, "-m", "tests.benchmarks.gpu_speed", "--work"], subprocess.PIPE
    workers: dict[str, Any] = {s: subprocess.Popen([*command, s], stdin=pipe, stdout=pipe, text=True) for s in sides}
    known, end = {}, time.monotonic() + PATIENCE
    for side, worker in list(workers.items()):
        ready, _, _ = select.select([worker.stdout], [], [], max(end - time.monotonic(), 0))
        line = worker.stdout.readline() if ready else ""
        if not line:
            print(f"{side} did not start in {PATIENCE} seconds.", flush=True)
            worker.kill()
            del workers[side]
        known[side] = json.loads(line or "{}")
    seconds: dict[str, list[float]] = {side: [] for side in workers}
    for _ in range(rounds):
        for side, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            seconds[side].append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    started = [side for side in workers if known.get(f"jaxgen, {side.partition(', ')[2]}")]
    return [result for side in started for result in row_of(side, seconds, known)]


def row_of(side: str, seconds: dict[str, list[float]], known: dict[str, Any]) -> list[Result]:
    who, _, name = side.partition(", ")
    took, facts = float(np.median(seconds[side])), known[f"jaxgen, {name}"]
    tera = facts["flops"] / took / 1e12
    peak = next((value for chip, value in PEAK.items() if chip in (report.gpu() or "")), None)
    values: dict[str, Any] = {"ms": 1000 * took, "tflops": tera, "share_of_peak": tera / peak if peak else None}
    if name in BATCHES:
        values["images_per_second"] = BATCHES[name] / took
    else:
        values["megapixels_per_second"] = (SIDES[name] * PRESETS[name][1]) ** 2 / took / 1e6
    if f"jaxgen, {name}" in seconds:
        values["time_ratio"] = took / float(np.median(seconds[f"jaxgen, {name}"]))
    values["parameters"] = facts["parameters"]
    preset = PRESETS[name][0] if name in PRESETS and who == "jaxgen" else None
    return report.row({"work": name, "by": who}, values, model=f"{who}, {name}", preset=preset)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2])
    else:
        wanted = report.arguments(__doc__, rounds=5)
        if not report.gpu():
            raise SystemExit("This benchmark needs a GPU, and nvidia-smi names none.")
        report.publish("gpu-speed", measure(wanted.rounds), wanted.write)
