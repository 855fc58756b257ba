"""beta-VAE: Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", 2017.

A VAE with weight beta > 1 for the KL (equation 4). A larger cost of each latent favours disentangled latents: each
represents one factor of variation of the images. The preset trains on `shapes`, where the factors are known.

A short training run does not disentangle the factors.
"""

from jaxgen.models.vae.vae import CONV, VAE, row

PRESETS = {"beta-vae": row(VAE(image=(64, 64, 3), latent=10, nets=CONV, beta=4.0, anneal=5000), 1_507_031, "shapes")}
