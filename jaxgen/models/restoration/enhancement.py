"""NAFNet for other degradations than noise: Chen, Chu, Zhang and Sun 2022, "Simple Baselines for Image Restoration".

The presets share one net (nafnet.py) and differ in their degradation.

`nafnet-deblur`     motion and camera shake up to 20 pixels, Gaussian blur, a little noise
`nafnet-jpeg`       JPEG of quality 5 to 95, as in blind deblocking (Jiang et al. 2021, "FBCNN")
`nafnet-dehaze`     Koschmieder's haze of a random depth
`nafnet-low-light`  gamma, gain and noise of a dark exposure, trained on pairs; zero_dce.py needs no pairs
`nafnet-colourise`  grey to colour; outputs are the mean of the plausible colours, and so paler than the truth

The authors' own net for deblurring has other numbers of blocks (1 1 1 28, 1 in the middle, 1 1 1 1) and weight decay.

A small net colours grey images in muted browns and greens.
"""

from jaxgen.core.config import Optim, Preset
from jaxgen.data.degradations import Degradation
from jaxgen.models.restoration.nafnet import NAFNet, weight_name
from jaxgen.tasks.restoration import row, tiny

PARAMETERS = 29_159_715  # of every preset


WEIGHT_NAMES = weight_name


def preset(degradation: Degradation) -> Preset:
    small = NAFNet((16, 16, 3), 8, (1,), 1, (1,), degradation)
    model = NAFNet(degradation=degradation)
    return Preset(row(model, 200_000, 32, optim=Optim(schedule="cosine", clip=0.01)), tiny(small), PARAMETERS)


PRESETS = {
    "nafnet-deblur": preset(Degradation(blur=(0, 3), motion=(0, 20), shake=(0, 20), noise=(0, 5))),
    "nafnet-jpeg": preset(Degradation(jpeg=(5, 95))),
    "nafnet-dehaze": preset(Degradation(pipeline="haze")),
    "nafnet-low-light": preset(Degradation(pipeline="low-light", noise=(1, 10))),
    "nafnet-colourise": preset(Degradation(pipeline="grey")),
}
