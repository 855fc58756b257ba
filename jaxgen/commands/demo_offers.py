"""The trained models that the page of `demo` offers, by tab. They follow from the catalogue, and from what is named."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.core import paths
from jaxgen.core.capabilities import Degradation, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.pretrained import catalogue


class Tab(NamedTuple):
    """A tab of the page: its title, its heading as a sentence, and the training that makes a model for it."""

    title: str
    heading: str
    training: str


TABS = {
    "restore": Tab("Restore", "Enlarge and improve a photograph.", "super_resolution --preset imdn"),
    "fill": Tab("Fill", "Paint over a part of a photograph, and have it filled in.", "restoration --preset gated-conv"),
    "stylise": Tab("Stylise", "Paint a photograph in a style.", "translation --preset fast-style"),
    "draw": Tab("Draw", "Draw new images.", "gan --preset stylegan2-ada"),
    "translate": Tab("Translate", "Turn one kind of image into another.", "translation --preset pix2pix"),
}


@dataclass(frozen=True)
class Offer:
    """A trained model that the page offers.

    name:   what jaxgen.load takes
    what:   a phrase, such as "enlarges 4 times"
    about:  where it comes from, in sentences
    preset, model, task: of its weights
    """

    name: str
    what: str
    about: str
    preset: str
    model: Any
    task: Task

    @property
    def transform(self) -> Transform:
        """The Transform that makes its answers."""
        return self.task.get(Transform)

    @property
    def label(self) -> str:
        """The text for a list to choose from: what it does, and its name."""
        return f"{self.what[:1].upper()}{self.what[1:]} ({self.name})"

    @cached_property
    def tabs(self) -> tuple[str, ...]:
        """The tabs that it belongs to."""
        return tuple(tabs_of(self))

    @property
    def stem(self) -> str:
        """Its name for the names of files."""
        return Path(self.name).stem or "model"

    @property
    def domains(self) -> tuple[str, ...]:
        """The styles or the domains that it knows, by name; () for none."""
        spec = self.transform.inputs.get("to")
        return () if spec is None else spec.names or tuple(map(str, range(spec.count)))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names or numbers of the classes that it draws; () where it knows none."""
        if "label" not in self.transform.required:
            return ()
        return self.task.example["label"].names or tuple(map(str, range(self.task.classes)))


def offers(named: Sequence[str] = (), published: bool = False) -> dict[str, list[Offer]]:
    """Return the models of each tab: those that are named, those that ship, and those that were fetched before.

    named:     runs' folders, files of weights that state their model, and names of weights
    published: offer all published weights; they are fetched when they are first used
    Raises InputError where one that is named is nothing, or of no use in any tab.
    """
    found: dict[str, list[Offer]] = {tab: [] for tab in TABS}
    ready = [name for name in catalogue.names() if published or catalogue.is_here(name)]
    for name in dict.fromkeys((*named, *ready)):
        offer = offer_of(name)
        if not offer.tabs and name in named:
            raise InputError(f"{name} is of {offer.preset}, for which the page has no tab: it has {', '.join(TABS)}.")
        for tab in offer.tabs:
            found[tab].append(offer)
    return found


def offer_of(name: str) -> Offer:
    """Return the offer of a run's folder, of weights by name, or of a file. Raises InputError for a name of nothing."""
    from jaxgen import zoo
    from jaxgen.inference.opening import configured, task_of

    task, run = task_of(name), configured(name)
    assert run is not None  # as there is a task
    entry = None if paths.path(name).exists() else catalogue.find(name)
    if entry is None:
        what, about = zoo.use_of(run.preset), "It is your own."
    else:
        what, about = entry.what, f"Licence: {entry.licence}. {origin(entry)}"
    return Offer(name, what, f"Preset {run.preset}. {about}", run.preset, run.model, task)


def origin(entry: catalogue.Entry) -> str:
    """Return where weights come from, as a sentence."""
    if entry.shipped:
        return "It ships with jaxgen."
    first = "" if catalogue.is_here(entry.name) else f"; {entry.size / 1e6:.1f} MB are fetched at the first use"
    return f"Published at {entry.source}{first}."


def tabs_of(offer: Offer) -> Iterator[str]:
    """Yield the tabs that a model belongs to."""
    from jaxgen.inference.model import abilities
    from jaxgen.inference.sampling import conditions_of, sample_spec

    able = abilities(offer.task, offer.model)
    if "restore" in able and offer.task.find(Degradation) and offer.transform.source.kind == "image":
        yield "fill" if "mask" in offer.transform.inputs else "restore"
    if "stylize" in able:
        yield "stylise"
    if "sample" in able and sample_spec(offer.task).kind == "image" and not {*conditions_of(offer.task)} - {"label"}:
        yield "draw"
    if "translate" in able:
        yield "translate"


def way_to(tab: str, published: Sequence[Offer]) -> str:
    """Return how a tab without models gets some, as a sentence.

    published: the models that it would have with --published
    """
    others = [offer.name for offer in published]
    train = f"train some (python -m train.{TABS[tab].training} ...) and start this page with the run's folder"
    if not others:
        return f"No weights for this ship with this version: {train}, python -m jaxgen demo RUN."
    some = f"{others[0]} and {len(others) - 1} others" if len(others) > 2 else " and ".join(others)
    return (
        f"No weights for this ship with this version: python -m jaxgen demo --published offers {some}, which are "
        f"fetched when they are first used, or {train}."
    )
