"""The ResNet-18 training step beside PyTorch eager: python -m tests.benchmarks.classifier_step [--write] [--rounds N]

32x32x3, batch 128, the small stem (3x3, no pooling) that CIFAR is trained with, 10 classes, f32, one batch that stays
in memory; cross-entropy, SGD with Nesterov's momentum and weight decay. tests/benchmarks/turns.py says how the sides
take turns.
"""

import sys
from collections.abc import Callable
from typing import Any

from tests.benchmarks import report, turns

SIZE, BATCH, CLASSES = 32, 128, 10


def ours() -> Callable[[], Any]:
    """Return what takes one step as jaxgen's loop does, and waits for it."""
    from jaxgen.core.config import Run
    from jaxgen.models.classifier.resnet import ResNet

    return turns.step_of(Run(model=ResNet(18, image=(SIZE, SIZE, 3), classes=CLASSES, stem="small"), batch=BATCH))


def theirs(channels_last: bool) -> Callable[[], Any]:
    """Return what takes one step of the same network in PyTorch eager."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    from tests.helpers.torch_reference import prepare

    prepare()
    import torchvision  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(turns.THREADS)
    torch.manual_seed(0)
    net: Any = torchvision.models.resnet18(num_classes=CLASSES)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    images, labels = torch.rand(BATCH, 3, SIZE, SIZE) * 2 - 1, torch.randint(0, CLASSES, (BATCH,))
    if channels_last:
        layout: Any = {"memory_format": torch.channels_last}
        net, images = net.to(**layout), images.to(**layout)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)

    def one():
        sgd.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        sgd.step()

    return one


SIDES: turns.Sides = {
    "jaxgen": ours,
    "PyTorch": lambda: theirs(False),
    "PyTorch, channels last": lambda: theirs(True),
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        turns.work(SIDES, sys.argv[2], repeats=1)
    else:
        wanted = report.arguments(__doc__, rounds=5)
        rows = turns.measure("tests.benchmarks.classifier_step", SIDES, wanted.rounds, BATCH, "step", "resnet18")
        report.publish("classifier-step", rows, wanted.write)
