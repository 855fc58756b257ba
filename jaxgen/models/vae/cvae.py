"""CVAE: Sohn, Lee and Yan, "Learning Structured Output Representation using Deep Conditional Generative Models", 2015.

A VAE with an encoder and a decoder that are conditioned on the label, q(z | x, y) and p(x | z, y). The prior p(z) does
not depend on y; the paper's is a net of y. So the same z gives the same style for every label. The model is the
conditional one of vae.py.
"""

from jaxgen.models.vae.vae import CONV, VAE, row

PRESETS = {
    "cvae": row(VAE(classes=10), 660_824),
    "cvae-conv": row(VAE(image=(32, 32, 1), latent=32, nets=CONV, classes=10), 553_345),
}
