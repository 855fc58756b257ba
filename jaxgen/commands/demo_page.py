"""The page of `demo`, made with Gradio: a tab for each use, whose models are those that are offered."""

import html
import importlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxgen.commands.demo_offers import TABS, Offer, way_to
from jaxgen.commands.demo_offers import offers as offered
from jaxgen.commands.demo_work import LARGEST_DRAWN, Stopped, Studio
from jaxgen.commands.runner import unforeseen
from jaxgen.core.errors import InputError
from jaxgen.core.progress import duration

QUEUE = {"concurrency_id": "device", "concurrency_limit": 1}  # one piece of work at a time, of all tabs and users
CSS = """
.gradio-container { max-width: 1100px !important; width: 100%; margin: auto; }
#title, #title > *, .note > * { padding: 0 !important; }
.note { overflow-wrap: anywhere; }
.note .alert { color: var(--error-text-color, #b91c1c); font-weight: 600; }
.about { opacity: .75; font-size: var(--text-sm); overflow-wrap: anywhere; }
.drawn img { image-rendering: pixelated; }
"""
TITLE = """<h1 style="margin: .4em 0 0">jaxgen</h1>
<p>Restore, paint and draw images with small trained nets. Your images stay on the machine that runs this page.</p>"""


def gradio() -> Any:
    """Return the library, which sends nothing anywhere. Raises InputError where it is missing."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        return importlib.import_module("gradio")
    except ImportError:
        raise InputError("The page is made with Gradio: pip install 'jaxgen[demo]'.") from None


def page(studio: Studio, found: dict[str, list[Offer]]) -> Any:
    """Return the page, a gradio.Blocks, for the models of each tab."""
    gr, every = gradio(), {} if all(found.values()) else offered(published=True)
    with gr.Blocks(analytics_enabled=False, title="jaxgen", delete_cache=(600, 3600), fill_width=True) as blocks:
        gr.HTML(TITLE, elem_id="title")
        with gr.Tabs():
            for name, offers in found.items():
                with gr.Tab(TABS[name].title, id=name):
                    gr.Markdown(TABS[name].heading if offers else way_to(name, every[name]))
                    if offers:
                        BUILD[name](Bench(gr, studio, offers))
    return blocks


class Bench:
    """The parts that tabs have in common: an upload, a list of models, the buttons, and the answer."""

    def __init__(self, gr: Any, studio: Studio, offers: Sequence[Offer]):
        self.gr, self.studio = gr, studio
        self.offers = {offer.name: offer for offer in offers}

    def models(self, label: str) -> tuple[Any, Any]:
        """Return the list of models, and the lines about the one that is chosen."""
        first = next(iter(self.offers.values()))
        choices = [(offer.label, name) for name, offer in self.offers.items()]
        chosen = self.gr.Radio(choices, value=first.name, label=label, elem_classes="models")
        about = self.gr.Markdown(first.about, elem_classes="about")
        chosen.change(lambda name: self.offers[name].about, chosen, about, **QUICK)
        return chosen, about

    def upload(self, label: str = "Your photograph") -> tuple[Any, Any, Any]:
        """Return the place for an image, the state with its file's path, and the line for what is wrong with it."""
        gr = self.gr

        place = gr.Image(label=label, sources=["upload", "clipboard"], type="filepath", height=260, buttons=[])
        place.preprocess = lambda upload: None if upload is None else upload.path  # our own reader decodes the file
        file, wrong = gr.State(None), gr.HTML(elem_classes="note", visible=False)

        def look(path: str | None) -> tuple[Any, Any, Any]:
            try:
                view = None if path is None else str(self.studio.view(Path(path)))
            except InputError as error:
                return None, None, gr.HTML(alert(sentence(error, path)), visible=True)
            return view, path, gr.HTML(visible=False)

        place.input(look, place, [place, file, wrong], **QUICK)
        return place, file, wrong

    def answer(self, drawn: bool = False) -> tuple[Any, Any, Any]:
        """Return the places for the image, the download and the note."""
        gr = self.gr
        if drawn:
            shown = gr.Image(
                label="Images", interactive=False, format="png", buttons=["fullscreen"], elem_classes="drawn"
            )
        else:
            shown = gr.ImageSlider(
                label="Before and after", interactive=False, format="png", max_height=560, buttons=["fullscreen"]
            )
        note = gr.HTML(elem_classes="note")
        download = gr.DownloadButton("Download", visible=False, variant="secondary")
        return shown, download, note

    def button(self, label: str, inputs: Sequence[Any], outputs: Sequence[Any], work: Callable[..., Any]):
        """Add the buttons that start and stop the work.

        work: the inputs' values -> the file made, and what is shown of it
        """
        gr = self.gr
        go, stop = gr.Button(label, variant="primary"), gr.Button("Stop", visible=False)

        Request = gr.Request  # by this annotation Gradio passes the request

        def begin(request: Request) -> tuple[Any, Any]:  # pyright: ignore[reportInvalidTypeForm]
            self.studio.begin(request.session_hash)
            return gr.Button(visible=False), gr.Button(visible=True)

        def run(
            request: Request,  # pyright: ignore[reportInvalidTypeForm]
            *values: Any,
            progress: Any = gr.Progress(),  # noqa: B008
        ) -> tuple[Any, Any, str]:
            began = time.monotonic()

            def hear(text: str, done: float, total: float | None):
                progress((done / total) if total else 0.0, desc=text)

            nothing = None, gr.DownloadButton(visible=False)
            try:
                with self.studio.working(request.session_hash, hear):
                    made, shown = work(*values)
            except Stopped:
                return *nothing, "Stopped."
            except InputError as error:
                return *nothing, alert(sentence(error, *values))
            except Exception as error:
                return *nothing, alert(unforeseen(error))
            size = f"{made.stat().st_size / 1e6:.2g} MB, {duration(time.monotonic() - began)}"
            return shown, gr.DownloadButton(value=str(made), visible=True), f"{html.escape(made.name)}: {size}"

        def end() -> tuple[Any, Any]:
            return gr.Button(visible=True), gr.Button(visible=False)

        def halt(request: Request):  # pyright: ignore[reportInvalidTypeForm]
            self.studio.stop(request.session_hash)

        started = go.click(begin, None, [go, stop], **QUICK)
        started.then(run, list(inputs), list(outputs), show_progress_on=outputs[0], api_name=False, **QUEUE).then(
            end, None, [go, stop], **QUICK
        )
        stop.click(halt, None, None, **QUICK)


QUICK = {"queue": False, "show_progress": "hidden", "api_name": False}


def alert(text: str) -> str:
    """Return a sentence about what went wrong, as HTML."""
    return f'<span class="alert" role="alert">{html.escape(text)}</span>'


def sentence(error: InputError, *values: Any) -> str:
    """Return an error's sentence with files under their own names, without the folders of this machine."""
    text = str(error)
    for path in (value for value in values if isinstance(value, str) and os.path.isabs(value)):
        text = text.replace(path, os.path.basename(path))
    return text


def given(path: str | None, what: str = "a photograph") -> Path:
    """Return the path of an upload. Raises InputError where there is none."""
    if not path:
        raise InputError(f"Add {what} first.")
    return Path(path)


def restore(bench: Bench):
    """Fill the tab of restoration."""
    gr, studio = bench.gr, bench.studio
    with gr.Row():
        with gr.Column():
            _, file, _ = bench.upload()
            chosen, _ = bench.models("What to do")
            first = next(iter(bench.offers.values()))
            factor = gr.Radio(**factors(first), label="Factor")
            sigma = gr.Slider(0, 75, 25, step=1, label="Noise, of 255", visible="sigma" in first.transform.conditions)
            buttons = gr.Group()
        with gr.Column():
            shown, download, note = bench.answer()

    def adapt(name: str) -> tuple[Any, Any]:
        offer = bench.offers[name]
        return gr.Radio(**factors(offer)), gr.Slider(visible="sigma" in offer.transform.conditions)

    def work(path: str | None, name: str, scale: float | None, noise: float) -> tuple[Path, Any]:
        offer, before = bench.offers[name], given(path)
        scale = scale if len(offer.transform.scales) > 1 else None
        needs = "sigma" in offer.transform.conditions
        made = studio.restore(offer, before, scale, noise if needs else None)
        return made, studio.views(before, made)

    chosen.change(adapt, chosen, [factor, sigma], **QUICK)
    with buttons:
        bench.button("Restore", [file, chosen, factor, sigma], [shown, download, note], work)


def factors(offer: Offer) -> dict[str, Any]:
    """Return the settings of the list of factors."""
    scales = [int(scale) for scale in offer.transform.scales]
    return {"choices": scales, "value": scales[-1] if scales else None, "visible": len(scales) > 1}


def fill(bench: Bench):
    """Fill the tab of holes: the mask is painted over a view of the photograph."""
    gr, studio = bench.gr, bench.studio
    with gr.Row():
        with gr.Column():
            place, file, _ = bench.upload()
            brush = gr.Brush(colors=["#e11d48"], default_size=24, color_mode="fixed")
            canvas = gr.ImageEditor(
                label="Paint here", type="pil", brush=brush, layers=False, sources=(),
                transforms=(), height=420, buttons=[],
            )  # fmt: skip
            chosen, _ = bench.models("By")
            buttons = gr.Group()
        with gr.Column():
            shown, download, note = bench.answer()
    on_canvas = lambda view: None if view is None else {"background": view, "layers": [], "composite": None}  # noqa: E731
    place.change(on_canvas, place, canvas, **QUICK)

    def work(path: str | None, painted: Any, name: str) -> tuple[Path, Any]:
        before = given(path)
        made = studio.fill(bench.offers[name], before, (painted or {}).get("layers") or [])
        return made, studio.views(before, made)

    with buttons:
        bench.button("Fill in", [file, canvas, chosen], [shown, download, note], work)


def stylise(bench: Bench):
    """Fill the tab of styles: each style of each net is a choice; nets of any style need an image of it."""
    gr, studio = bench.gr, bench.studio
    styles = [
        (offer.label if len(offer.domains) < 2 else f"{domain} ({name})", f"{name}\n{domain}")
        for name, offer in bench.offers.items()
        for domain in (offer.domains if "style" not in offer.transform.inputs else ("",))
    ]
    takes = lambda choice: "style" in bench.offers[choice.partition("\n")[0]].transform.inputs  # noqa: E731
    with gr.Row():
        with gr.Column():
            _, file, _ = bench.upload()
            chosen = gr.Radio(styles, value=styles[0][1], label="Style", elem_classes="models")
            about = gr.Markdown(next(iter(bench.offers.values())).about, elem_classes="about")
            with gr.Column(visible=takes(styles[0][1])) as own:
                _, painting, _ = bench.upload("An image of the style")
            strength = gr.Slider(0, 1, 1, step=0.05, label="Strength")
            colours = gr.Radio(
                [("of the style", "style"), ("of the photograph", "content"), ("its own, only light changes", "luma")],
                value="style", label="Colours",
            )  # fmt: skip
            buttons = gr.Group()
        with gr.Column():
            shown, download, note = bench.answer()

    def adapt(choice: str) -> tuple[str, Any]:
        return bench.offers[choice.partition("\n")[0]].about, gr.Column(visible=takes(choice))

    def work(path: str | None, choice: str, image: str | None, share: float, colour: str) -> tuple[Path, Any]:
        before, (name, _, style) = given(path), choice.partition("\n")
        wanted = given(image, "an image of the style") if takes(choice) else style
        made = studio.stylise(bench.offers[name], before, wanted, share, colour)
        return made, studio.views(before, made)

    chosen.change(adapt, chosen, [about, own], **QUICK)
    with buttons:
        bench.button("Paint", [file, chosen, painting, strength, colours], [shown, download, note], work)


def draw(bench: Bench):
    """Fill the tab of new images."""
    gr, studio = bench.gr, bench.studio
    first = next(iter(bench.offers.values()))
    with gr.Row():
        with gr.Column():
            chosen, _ = bench.models("What to draw")
            label = gr.Dropdown(**classes(first), label="Class")
            count = gr.Slider(1, LARGEST_DRAWN, 16, step=1, label="How many")
            seed = gr.Number(0, label="Seed: another number draws others", precision=0, minimum=0, maximum=2**32 - 1)
            buttons = gr.Group()
        with gr.Column():
            shown, download, note = bench.answer(drawn=True)

    def work(name: str, number: float, start: float | None, one: str | None) -> tuple[Path, Any]:
        offer = bench.offers[name]
        made = studio.draw(offer, int(number), int(start or 0), one if one in offer.classes else None)
        return made, str(studio.large(made))

    chosen.change(lambda name: gr.Dropdown(**classes(bench.offers[name])), chosen, label, **QUICK)
    with buttons:
        bench.button("Draw", [chosen, count, seed, label], [shown, download, note], work)


def classes(offer: Offer) -> dict[str, Any]:
    """Return the settings of the list of classes."""
    known = list(offer.classes)
    return {"choices": [("all", ""), *((name, name) for name in known)], "value": "", "visible": bool(known)}


def translate(bench: Bench):
    """Fill the tab of translation."""
    gr, studio = bench.gr, bench.studio
    first = next(iter(bench.offers.values()))
    with gr.Row():
        with gr.Column():
            _, file, _ = bench.upload("Your image")
            chosen, _ = bench.models("Into what")
            to = gr.Radio(**domains(first), label="Into")
            side = gr.Number(None, label="Shorter side in pixels; empty: as it is", precision=0, minimum=1)
            buttons = gr.Group()
        with gr.Column():
            shown, download, note = bench.answer()

    def work(path: str | None, name: str, domain: str | None, pixels: float | None) -> tuple[Path, Any]:
        offer, before = bench.offers[name], given(path, "an image")
        domain = domain if len(offer.domains) > 1 else None
        made = studio.translate(offer, before, domain, int(pixels) if pixels else None)
        return made, studio.views(before, made)

    chosen.change(lambda name: gr.Radio(**domains(bench.offers[name])), chosen, to, **QUICK)
    with buttons:
        bench.button("Translate", [file, chosen, to, side], [shown, download, note], work)


def domains(offer: Offer) -> dict[str, Any]:
    """Return the settings of the list of domains."""
    known = list(offer.domains)
    value = "image" if "image" in known else known[0] if known else None
    return {"choices": known, "value": value, "visible": len(known) > 1}


BUILD = {"restore": restore, "fill": fill, "stylise": stylise, "draw": draw, "translate": translate}


def theme() -> Any:
    """Return the look of the page, with fonts that every system has: none is fetched."""
    themes = gradio().themes
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return themes.Soft(primary_hue="indigo", neutral_hue="slate", **fonts)
