"""beta-VAE: Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", 2017.

A VAE whose KL weighs beta > 1 (equation 4): latents that it pays for one by one tend to stand for one factor of the
images each. Here on `shapes`, whose factors are known.

A short training disentangles nothing.
"""

from jaxgen.models.vae.vae import CONV, VAE, row

PRESETS = {"beta-vae": row(VAE(image=(64, 64, 3), latent=10, nets=CONV, beta=4.0, anneal=5000), 1_507_031, "shapes")}
