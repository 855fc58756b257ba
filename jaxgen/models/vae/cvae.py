"""CVAE: Sohn, Lee and Yan, "Learning Structured Output Representation using Deep Conditional Generative Models", 2015.

A VAE whose encoder and decoder are told the label, q(z | x, y) and p(x | z, y); the prior of z is not, where
theirs is a net of y: so a z is a way of drawing whatever the label. The conditional models of vae.py.
"""

from jaxgen.models.vae.vae import CONV, VAE, row

PRESETS = {
    "cvae": row(VAE(classes=10), 660_824),
    "cvae-conv": row(VAE(image=(32, 32, 1), latent=32, nets=CONV, classes=10), 553_345),
}
