"""python -m jaxgen demo: what it offers, what it refuses, and the page in a browser."""

import json
import re
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.__main__ import COMMANDS
from jaxgen.commands import demo_offers
from jaxgen.commands.demo_offers import TABS, Offer, offers, way_to
from jaxgen.commands.demo_work import Stopped, Studio
from jaxgen.core.errors import InputError
from jaxgen.core.progress import progress
from jaxgen.interop.write import write_safetensors
from jaxgen.media.inspection import facts
from jaxgen.pretrained import catalogue
from tests.helpers.browser import Browser, chromium
from tests.helpers.image_formats import png16, values
from tests.helpers.photo_samples import pixels_of, save, smooth
from tests.helpers.running import for_gradio, start
from tests.helpers.untrained import untrained


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Return an empty cache; nothing is fetched."""
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXGEN_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Return (name, preset, settings) -> None, which adds a file to the shipped weights: a card without weights."""
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path / "shelf")
    (tmp_path / "shelf").mkdir()

    def add(name: str, preset: str, **settings: Any):
        model = json.dumps(asdict(replace(zoo.load(preset).tiny.model, **settings)))
        card = {"preset": preset, "net": "restorer", "model": model, "what": f"does {name}"}
        write_safetensors(tmp_path / "shelf" / f"{name}.safetensors", {"x": np.zeros(1, np.float32)}, card)

    return add


def names(found: dict[str, list[Offer]]) -> dict[str, list[str]]:
    return {tab: [offer.name for offer in some] for tab, some in found.items() if some}


def test_the_tabs_follow_from_the_catalogue(cache, shelf):
    """Also from files that are added later, under any name; what would have to be fetched is left out."""
    assert names(offers()) == {}
    shelf("clean", "dncnn")
    shelf("brushes", "fast-style", styles=("wave", "scream"))
    shelf("emoji", "cgan")
    shelf("holes", "gated-conv")
    shelf("seasons", "pix2pix")
    shelf("digits", "lenet5")
    mine = {
        "restore": ["clean"],
        "fill": ["holes"],
        "stylise": ["brushes"],
        "draw": ["emoji"],
        "translate": ["seasons"],
    }
    found = offers()
    assert list(found) == list(TABS) and names(found) == mine
    assert found["restore"][0].label == "Does clean (clean)" and "ships" in found["restore"][0].about
    assert found["stylise"][0].domains == ("wave", "scream") and len(found["draw"][0].classes) == 10
    for file in catalogue.PUBLISHED["imdn-x4"].files:
        path = cache / "weights" / "imdn-x4" / file.name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    assert names(offers()) == {**mine, "restore": ["clean", "imdn-x4"]}
    every = offers(published=True)
    for tab, known in {
        "restore": {"imdn-x2", "dncnn-25"},
        "stylise": {"fast-style-wave"},
        "draw": {"gan-mnist"},
    }.items():
        assert known <= set(names(every)[tab])
    assert "2.8 MB are fetched at the first use" in every["restore"][1].about


def test_what_is_named_is_offered_first(cache, tmp_path):
    run = str(untrained(tmp_path / "run", "restoration", "dncnn"))
    assert names(offers([run]))["restore"][0] == run
    with pytest.raises(InputError, match="lenet_mnist is of lenet5, for which the page has no tab: it has restore, "):
        offers(["lenet_mnist"])
    with pytest.raises(InputError, match="There is no run folder or file nowhere"):
        offers(["nowhere"])


def test_an_empty_tab_says_how_to_fill_it(cache):
    fetched = [offer for offer in offers(published=True)["stylise"] if offer.name in catalogue.PUBLISHED]
    assert "jaxgen demo --published offers fast-style-la-muse and 5 others" in way_to("stylise", fetched)
    assert way_to("translate", []).endswith(
        "train some (python -m train.translation --preset pix2pix ...) and start this page with the run's folder, "
        "python -m jaxgen demo RUN."
    )


def test_every_training_of_the_tabs_is_there():
    for tab in TABS.values():
        family, _, preset = tab.training.partition(" --preset ")
        assert preset in zoo.family(family)


def test_without_gradio_one_sentence_says_how_to_install_it(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli(2, "demo") == "The page is made with Gradio: pip install 'jaxgen[demo]'."
    assert "demo" in COMMANDS and "needs no network" in cli(0, "demo", "--help")


# ---- uploads

BICUBIC: Any = replace(demo_offers.offer_of("enlarge-x4"), name="bicubic")  # takes no time


@pytest.fixture
def studio(tmp_path) -> Studio:
    return Studio(tmp_path / "studio", megapixels=0.01, megabytes=0.02)


def photographs(folder: Path) -> dict[str, Path]:
    """Write photographs of every kind that phones, scanners and printers make."""
    x, exif = smooth(8, 16), Image.Exif()
    exif[0x0112] = 6
    made = {
        "turned.jpg": save(folder / "turned.jpg", x, exif=exif),
        "clear.png": save(folder / "clear.png", values(4, 8)),
        "grey.png": save(folder / "grey.png", smooth(8, 16, 1)),
        "deep.png": folder / "deep.png",
        "print.jpg": folder / "print.jpg",
        "scan.tif": save(folder / "scan.tif", x),
    }
    made["deep.png"].write_bytes(png16(values(3, 16), 1))
    Image.fromarray(x).convert("CMYK").save(made["print.jpg"])
    return made


def test_every_kind_of_photograph_gives_the_file_of_the_command(studio, cli, tmp_path):
    for name, file in photographs(tmp_path).items():
        made, out = studio.restore(BICUBIC, file), tmp_path / f"out-{Path(name).stem}.png"
        cli(0, "restore", file, "--with", "bicubic", "--out", out)
        assert made.read_bytes() == out.read_bytes() and made.name == f"{file.stem}-bicubic.png"
        with Image.open(studio.view(file)) as view, Image.open(made) as large:
            assert view.format == "PNG" and (2 * view.width, 2 * view.height) == large.size
        before, after = studio.views(file, made)
        assert pixels_of(Path(before)).shape[:2] == pixels_of(Path(after)).shape[:2] == large.size[::-1]
    assert facts(studio.restore(BICUBIC, tmp_path / "deep.png"))["image"]["bits"] == 16


def test_what_can_not_be_taken_is_refused_in_a_sentence(studio, tmp_path):
    frames = [Image.fromarray(smooth(8, 8, seed=i)) for i in range(2)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "note.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(save(tmp_path / "a.png", smooth(64, 64)).read_bytes()[:900])
    save(tmp_path / "wide.png", np.zeros((100, 101, 3), np.uint8))
    save(tmp_path / "heavy.png", np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8))
    for name, words in {
        "moving.gif": "is animated, 2 frames",
        "note.png": "its content is not an image",
        "cut.png": "can't be read",
        "wide.png": "wide.png is 100x101, 0.0101 megapixels: this page takes 0.01 at most.",
        "heavy.png": "heavy.png has 0.0245 MB: this page takes 0.02 at most.",
    }.items():
        for work in (studio.view, lambda file: studio.restore(BICUBIC, file)):
            with pytest.raises(InputError, match=re.escape(words)):
                work(tmp_path / name)
    with pytest.raises(InputError, match="Paint over what is to be filled in first"):
        studio.fill(BICUBIC, tmp_path / "a.png", [Image.new("RGBA", (8, 8), (0, 0, 0, 0))])


def test_the_mask_is_what_was_painted(studio, tmp_path, monkeypatch):
    """On a canvas of another size than the photograph's."""
    file, layer, given = save(tmp_path / "a.png", smooth(16, 24)), np.zeros((8, 12, 4), np.uint8), []
    layer[2:4, 3:6] = 255
    monkeypatch.setattr(studio, "restore", lambda offer, file, mask: given.append(mask))
    studio.fill(BICUBIC, file, [Image.fromarray(layer)])
    expected = np.zeros((16, 24), np.uint8)
    expected[4:8, 6:12] = 255
    np.testing.assert_array_equal(pixels_of(given[0]), expected)


def test_progress_is_heard_and_stop_ends_the_work_of_its_session(studio):
    heard: list[tuple[str, float, float | None]] = []
    with studio.working("a", lambda *at: heard.append(at)), progress("drawing", 4) as show:
        studio.stop("b")
        show(2)
    assert heard == [("starting", 0, None), ("drawing", 0, 4), ("drawing", 2, 4)]
    with pytest.raises(Stopped), studio.working("a", lambda *at: None), progress("drawing", 4) as show:
        studio.stop("a")
        show(3)
    with pytest.raises(Stopped), studio.working("a", lambda *at: None):
        pass
    studio.begin("a")
    with studio.working("a", lambda *at: None):
        pass


# ---- the page


@pytest.fixture
def address(environment, tmp_path):
    """Yield the address of a page that a command serves, without network; then end it as Ctrl-C does."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    process = start(
        {**for_gradio(environment), **nowhere, "JAXGEN_OFFLINE": "1", "TMPDIR": str(tmp_path)}, "jaxgen", "demo"
    )
    try:
        assert process.stdout and process.stderr
        said = iter(process.stdout.readline, "")
        found = next((match for line in said if (match := re.search(r"The page is at (\S+)", line))), None)
        assert found, process.stderr.read()
        assert list(tmp_path.glob("jaxgen-demo-*"))
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130 and not list(tmp_path.glob("jaxgen-demo-*")), "uploads are removed"
        assert "Traceback" not in (text := process.stderr.read()) and "Stopped." in text, text
    finally:
        process.kill()
        process.communicate()


def until(browser: Browser, text: str, seconds: float = 120) -> Any:
    """Return what a function body returns in the page, once that is true."""
    end = time.monotonic() + seconds
    while not (found := browser.js(text)):
        assert time.monotonic() < end, f"{text}: {browser.js('return document.body.innerText')}"
        time.sleep(0.2)
    return found


VISIBLE = "[...document.querySelectorAll('%s')].filter(x => x.offsetParent)"
FOREIGN = (
    "return performance.getEntriesByType('resource').map(x => x.name)"
    ".filter(x => !x.startsWith(location.origin) && !x.startsWith('data:'))"
)


@pytest.mark.slow
def test_a_photograph_goes_in_and_the_commands_image_comes_out(address, cli, tmp_path):
    """Chromium: all tabs are there, nothing comes from elsewhere, and the download has the command's pixels."""
    file, out = save(tmp_path / "small.png", smooth(40, 56)), tmp_path / "large.png"
    (tmp_path / "note.png").write_text("no image")
    cli(0, "restore", file, "--scale", "4", "--out", out)
    with chromium() as browser:
        browser.emulate(1280)
        browser.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
        browser.open(address)
        until(browser, "return document.querySelector('input[type=file]')")
        tabs = set(browser.js("return [...document.querySelectorAll('button[role=tab]')].map(x => x.innerText)"))
        assert tabs == {tab.title for tab in TABS.values()}

        def upload(path: Path):
            browser.send(f"/element/{browser.find('input[type=file]')}/value", text=str(path))

        go = f"return {VISIBLE % 'button.primary'}.map(x => x.click()).length"
        alerts = f"return {VISIBLE % '[role=alert]'}.map(x => x.innerText).join('')"
        browser.js(go)
        assert until(browser, alerts) == "Add a photograph first."
        upload(tmp_path / "note.png")
        until(browser, f"{alerts}.includes('note.png can\\'t be read: its content is not an image')")
        upload(file)
        until(browser, f"return !{VISIBLE % '[role=alert]'}.some(x => x.innerText.includes('note.png'))")
        until(browser, f"return {VISIBLE % 'img'}.some(x => x.naturalWidth == 56)")
        browser.js(f"{VISIBLE % 'label'}.find(x => x.innerText.includes('enlarge-x4')).click()")
        until(browser, f"return {VISIBLE % '.about'}.some(x => x.innerText.includes('Preset imdn'))")
        browser.js(go)
        until(browser, f"return {VISIBLE % '.note'}.some(x => x.innerText.includes('small-enlarge-x4.png'))")
        until(browser, f"return {VISIBLE % 'img'}.filter(x => x.naturalWidth == 224).length == 2")
        browser.js(f"{VISIBLE % 'button'}.find(x => x.innerText == 'Download').click()")
        made, end = tmp_path / "downloads" / "small-enlarge-x4.png", time.monotonic() + 30
        while not made.exists() and time.monotonic() < end:
            time.sleep(0.2)
        np.testing.assert_array_equal(pixels_of(made), pixels_of(out))
        assert facts(made)["mark"] == facts(out)["mark"] and facts(made)["mark"]["preset"] == "imdn"

        colours = []
        for width, dark in ((1280, False), (1280, True), (400, False), (400, True)):
            browser.emulate(width, dark)
            assert browser.js("return document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off"
            colours.append(until(browser, "return getComputedStyle(document.body).backgroundColor"))
        assert browser.js(FOREIGN) == []
        assert [said for said in browser.console() if "Method not implemented" not in said] == []
