"""The GAN family as two CPU cores can train it on MNIST: each preset, and what is changed of it."""

from dataclasses import dataclass

WIDTH, BATCH = 32, 32  # of DCGAN and whoever has its nets
SMALL = f"--batch {BATCH} --model.image 32 32 1"
RESIDUAL = f"{SMALL} --model.width 16 --model.critic-width 16"
HALF = " --model.game.critics 2 --model.game.learning-rate 8e-4 --optim.schedule constant"
# Weak critics: with the gammas and rates of the papers, which are for far longer runs, the critic wins at once and all
# samples take one shape.
STYLE = (
    f"{SMALL} --model.channel-base 256 --model.channel-max 32 --model.mapping-layers 2 --model.latent 32"
    " --model.mixing 0 --model.path-length 0 --model.path-every 1 --model.game.r1 10 --model.game.lazy 4"
    " --model.game.learning-rate 0.01 --model.game.generator-rate 0.003"
    " --model.ema-half-life 100 --model.ema-rampup 0.05"
)
PLAIN = (
    "8 to 32 channels, gamma 10 every 4 steps, rates 0.01 and 0.003, a half-life of 100 steps with ramp-up, no mixing, "
    "no path length"
)


@dataclass(frozen=True)
class Model:
    """A preset, the settings that make it small enough, and in words what else they change of it."""

    preset: str
    settings: str = ""
    changed: str = ""
    conditional: bool = False
    updates: int = 0  # of the generator, where it is slow to learn

    @property
    def argv(self) -> list[str]:
        return ["--preset", self.preset, *self.settings.split()]


MODELS = {
    "gan": Model(
        "gan",
        f"--batch {BATCH} --compute.steps-per-call 10 --model.game.learning-rate 1e-3",
        "rate 1e-3",
        updates=16_000,
    ),
    "dcgan": Model("dcgan"),
    "dcgan-tutorial": Model(
        "dcgan",
        "--model.prior normal --model.game.learning-rate 2e-4",
        "the PyTorch tutorial's rate 2e-4 and normal prior",
    ),
    "dcgan-bare": Model("dcgan", "--model.norm none", "`dcgan` without the critic's batch norm"),
    "dcgan-sn": Model(
        "dcgan",
        "--model.norm none --model.game.spectral discriminator",
        "`dcgan` with spectral normalisation for batch norm",
    ),
    "dcgan-r1": Model(
        "dcgan", "--model.norm none --model.game.r1 1", "`dcgan` with R1, gamma 1, for the critic's batch norm"
    ),
    "cgan": Model("cgan", conditional=True, updates=4000),
    "cgan-projection": Model("cgan-projection", conditional=True, updates=4000),
    "acgan": Model("acgan", conditional=True, updates=4000),
    "infogan": Model("infogan"),
    "wgan": Model("wgan", "--model.game.learning-rate 5e-4", "rate 5e-4"),
    "wgan-gp": Model("wgan-gp", "--model.width 16 --model.game.learning-rate 5e-4", "width 16, rate 5e-4"),
    "unrolled": Model(
        "unrolled",
        "--model.width 16 --model.game.learning-rate 1e-4 --model.game.generator-rate 5e-4",
        "width 16, rates 1e-4 and 5e-4",
        updates=3000,
    ),
    "sngan": Model("sngan", RESIDUAL + HALF, "width 16, rate 8e-4, constant, 2 updates of the critic to one"),
    "sngan-projection": Model("sngan-projection", RESIDUAL + HALF, "as `sngan`", conditional=True, updates=4000),
    "biggan": Model(
        "biggan",
        f"{RESIDUAL} --data.no-flip --model.latent 64 --model.embedding 16 --model.attention 8"
        " --model.game.critics 1 --model.game.learning-rate 8e-4 --model.game.generator-rate 4e-4",
        "width 16, rates 8e-4 and 4e-4, one update of the critic to one, attention at 8x8",
        conditional=True,
        updates=8000,
    ),
    "stylegan2": Model("stylegan2", STYLE, PLAIN),
    "stylegan2-ada": Model("stylegan2-ada", STYLE, "as `stylegan2`"),
    "r3gan": Model(
        "r3gan",
        # Grouped convolutions are slow on CPUs: one group.
        f"{SMALL} --data.no-flip --model.width 16 --model.blocks 1 --model.expansion 1 --model.group 16"
        " --model.game.lazy 4 --model.game.r1 50 --model.game.r2 50 --model.game.learning-rate 2e-3"
        " --model.game.beta2 0.99",
        "width 16, rate 2e-3, beta2 0.99, gamma 50 every 4 steps, convolutions in one group",
    ),
}
