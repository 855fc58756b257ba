"""Several images in one: jaxgen/media/poisson_blending.py and jaxgen/commands/compose.py."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.core.types import Context
from jaxgen.media.poisson_blending import differences, periodic, poisson
from jaxgen.models.translation.adain import AdaIN
from tests.helpers.compose_samples import disc, load, save, smooth
from tests.helpers.untrained import untrained


def neighbours(y: int, x: int, height: int, width: int):
    around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
    return [(j, i) for j, i in around if 0 <= j < height and 0 <= i < width]


@pytest.mark.parametrize("mixed", [False, True])
def test_poisson_blending_solves_the_papers_equation_pixel_by_pixel(mixed):
    """Equation 7 of the paper written out as a dense system; the mask reaches the image's border."""
    f, g, hole = smooth(0, 13, 11, 2), smooth(1, 13, 11, 2), disc(13, 11)[..., 0]
    assert hole[:, -1].any() or hole[0].any()
    order = {tuple(p): i for i, p in enumerate(np.argwhere(hole))}
    matrix, right = np.zeros((len(order), len(order))), np.zeros((len(order), 2))
    for (y, x), i in order.items():
        for q in neighbours(y, x, 13, 11):
            matrix[i, i] += 1
            own, given = f[y, x] - f[q], g[y, x] - g[q]
            right[i] += np.where(np.abs(own) > np.abs(given), own, given) if mixed else given
            if q in order:
                matrix[i, order[q]] -= 1
            else:
                right[i] += f[q]
    made = poisson(f, g, hole[..., None], mixed)
    np.testing.assert_allclose(made[hole], np.linalg.solve(matrix, right), atol=1e-5)
    assert np.array_equal(made[~hole], f[~hole])


@pytest.mark.slow
def test_poisson_blending_of_a_photograph_leaves_no_residual(real_data):
    photo = (
        np.asarray(Image.open(real_data / "photos" / "astronaut.png").convert("RGB"), np.float32)[::2, ::2] / 127.5 - 1
    )
    below = (
        np.asarray(Image.open(real_data / "photos" / "coffee.png").convert("RGB"), np.float32)[:256, :256] / 127.5 - 1
    )
    hole = disc(256, 256)
    made = poisson(below, photo, hole).astype(np.float64)
    d = differences(256, 256)
    flat = lambda x: x.reshape(-1, 3)  # noqa: E731
    residual = d.T @ (d @ flat(made) - d @ flat(photo.astype(np.float64)))
    assert np.abs(residual[hole.ravel()]).max() < 1e-4
    jump = np.abs(made - below)[1:-1, 1:-1][(hole[1:-1, 1:-1] & ~hole[2:, 1:-1])[..., 0]]
    pasted = np.abs(photo - below)[1:-1, 1:-1][(hole[1:-1, 1:-1] & ~hole[2:, 1:-1])[..., 0]]
    assert jump.mean() < 0.4 * pasted.mean(), "the border's colours are the background's"


def test_a_foreground_that_ends_at_its_mask_goes_over_into_the_background():
    """Of one colour, and unknown beyond, it leaves the smoothest image between the hole's borders."""
    f, hole = smooth(0, 20, 20), np.zeros((20, 20, 1), bool)
    hole[5:15, 4:12] = True
    made = poisson(f, np.where(hole, np.float32(0.9), f), hole, known=hole)
    flat = poisson(f, np.full_like(f, -0.3), hole)
    np.testing.assert_allclose(made, flat, atol=1e-6)


def test_poisson_blending_takes_all_or_nothing_as_it_is():
    f, g = smooth(0, 8, 9), smooth(1, 8, 9)
    assert np.array_equal(poisson(f, g, np.zeros((8, 9, 1))), f)
    assert np.array_equal(poisson(f, g, np.ones((8, 9, 1))), g)


def test_the_periodic_part_has_the_images_laplacian_without_its_jumps():
    """Moisan 2011, proposition 1: on the torus the Laplacian of p is that of u within the image."""
    u = smooth(2, 12, 17)
    p = periodic(u).astype(np.float64)
    inner, torus = np.zeros_like(p), np.zeros_like(p)
    for axis in (0, 1):
        steps = np.diff(u.astype(np.float64), axis=axis)
        before, after = [(0, 0)] * 3, [(0, 0)] * 3
        before[axis], after[axis] = (1, 0), (0, 1)
        inner += np.pad(steps, after) - np.pad(steps, before)
        torus += np.roll(p, 1, axis) + np.roll(p, -1, axis) - 2 * p
    np.testing.assert_allclose(torus, inner, atol=1e-5)
    np.testing.assert_allclose(p.mean((0, 1)), u.mean((0, 1)), atol=1e-6)


@pytest.fixture
def files(tmp_path):
    background = save(tmp_path / "b.png", smooth(0, 40, 50))
    foreground = save(tmp_path / "f.png", smooth(1, 20, 24), disc(20, 24) * np.float32(0.5) + np.float32(0.25))
    return background, foreground, tmp_path


def test_a_foreground_is_pasted_by_its_alpha(files, cli):
    background, foreground, folder = files
    said = cli(0, "compose", background, foreground, "--how", "paste", "--at", "5,30", "--out", folder / "o.png")
    assert "by paste" in said
    made, below, above = (load(p) for p in (folder / "o.png", background, foreground))
    share = above[:, :20, 3:] / 255  # the right four columns lie beyond the background
    want = share * above[:, :20, :3] + (1 - share) * below[5:25, 30:]
    np.testing.assert_allclose(made[5:25, 30:], want, atol=1)
    made[5:25, 30:] = below[5:25, 30:]
    assert np.array_equal(made, below)


def test_a_part_that_is_only_brighter_disappears(files, cli):
    """Poisson blending keeps differences alone: of the same image, brighter, nothing is left to see."""
    background, _, folder = files
    brighter = smooth(0, 40, 50)[10:30, 10:40] * 0.9 + 0.05  # saved without being clipped
    part = save(folder / "part.png", (brighter - 0.05) / 0.9 * 0.999 + 0.1)
    mask = save(folder / "mask.png", disc(20, 30).astype(np.float32) * 2 - 1)
    cli(0, "compose", background, part, "--masks", mask, "--at", "10,10", "--out", folder / "o.png")
    assert np.abs(load(folder / "o.png") - load(background)).max() <= 4
    cli(0, "compose", background, part, "--masks", mask, "--at", "10,10", "--how", "paste", "--out", folder / "p.png")
    assert np.abs(load(folder / "p.png") - load(background)).max() >= 10


def test_a_foreground_gets_the_backgrounds_colours(files, cli):
    background, _, folder = files
    whole = save(folder / "w.png", smooth(4, 40, 50) * 0.3 - 0.5)
    cli(0, "compose", background, whole, "--how", "colours", "--out", folder / "o.png")
    made, below = load(folder / "o.png").reshape(-1, 3), load(background).reshape(-1, 3)
    assert np.abs(made.mean(0) - below.mean(0)).max() < 4
    assert np.abs(np.cov(made.T) - np.cov(below.T)).max() < 0.1 * np.cov(below.T).max()


def test_a_foreground_gets_the_backgrounds_palette(files, cli):
    """Every channel's numbers are the background's, rank by rank, and not nearly so by their moments alone."""
    background, _, folder = files
    skewed = save(folder / "w.png", np.exp(smooth(4, 40, 50) * 2) / 3 - 1)
    apart = {}
    for how in ("colours", "palette"):
        cli(0, "compose", background, skewed, "--how", how, "--out", folder / f"{how}.png")
        made, below = (np.sort(load(path).reshape(-1, 3), 0) for path in (folder / f"{how}.png", background))
        apart[how] = np.abs(made - below).max(0)
    assert (apart["palette"] <= 2).all() and (apart["colours"] > 10).any(), apart


def test_few_colours_become_as_many_of_the_backgrounds(files, cli):
    _, _, folder = files
    background = save(folder / "narrow.png", (smooth(0, 40, 50) * (0.3, 0.1, 0.2) - 0.4).astype(np.float32))
    flag = np.full((20, 24, 3), [0.9, 0.8, -1], np.float32)
    flag[:, :2] = -1, 0.2, 0.3  # a rim
    flag = save(folder / "flag.png", flag)
    cli(0, "compose", background, flag, "--how", "palette", "--at", "5,9", "--out", folder / "o.png")
    made, below = load(folder / "o.png"), load(background)
    inside = made[5:25, 9:33].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) == 2, "no bands"
    assert (inside.min(0) >= below.min((0, 1)) - 1).all() and (inside.max(0) <= below.max((0, 1)) + 1).all()
    made[5:25, 9:33] = below[5:25, 9:33]
    assert np.array_equal(made, below)


@pytest.mark.slow
def test_a_photograph_gets_anothers_palette(real_data, tmp_path, cli):
    for name in ("chelsea.png", "coffee.png"):
        Image.open(real_data / "photos" / name).convert("RGB").resize((120, 80)).save(tmp_path / name)
    out = tmp_path / "o.png"
    cli(0, "compose", tmp_path / "coffee.png", tmp_path / "chelsea.png", "--how", "palette", "--out", out)
    made, below = (np.sort(load(path).reshape(-1, 3), 0) for path in (out, tmp_path / "coffee.png"))
    assert np.quantile(np.abs(made - below), 0.99) <= 2


def test_several_foregrounds_of_several_sizes(files, cli):
    background, foreground, folder = files
    sizes = ("--size", "0.5", "1", "--at", "0,0", "15,20")
    cli(0, "compose", background, foreground, foreground, *sizes, "--how", "paste", "--out", folder / "o.png")
    changed = np.abs(load(folder / "o.png") - load(background)).max(2) > 0
    assert changed[:10, :12].any() and not changed[11:15].any() and changed[15:35, 20:44].any()
    assert not changed[:, :12][10:].any()


def test_what_is_faint_is_seen_faintly_and_what_lies_on_nothing_is_seen(files, cli):
    background, _, folder = files
    ghost = save(folder / "ghost.png", smooth(5, 20, 24), np.full((20, 24, 1), 0.4, np.float32))
    glass = save(folder / "glass.png", smooth(0, 40, 50), np.zeros((40, 50, 1), np.float32))
    cli(0, "compose", background, ghost, "--out", folder / "o.png")
    faint = np.abs(load(folder / "o.png") - load(background)).max(2)
    assert faint[15:25, 18:32].max() > 10 and faint.max() < 200
    cli(0, "compose", glass, ghost, "--how", "paste", "--out", folder / "g.png")
    alpha = load(folder / "g.png")[..., 3]
    assert set(np.unique(alpha)) == {0, 102} and (alpha > 0).sum() == 20 * 24


def test_what_is_hidden_leaves_no_fringe_when_the_size_changes(files, cli):
    *_, folder = files
    white = save(folder / "white.png", np.ones((40, 50, 3), np.float32))
    round_ = save(folder / "round.png", np.where(disc(20, 24), 1, -1).repeat(3, 2), disc(20, 24).astype(np.float32))
    for size in ("0.5", "1.7"):
        cli(0, "compose", white, round_, "--how", "paste", "--size", size, "--out", folder / "o.png", "--overwrite")
        assert load(folder / "o.png").min() >= 254


@pytest.mark.parametrize(
    "how", ["paste", "poisson", *(pytest.param(how, marks=pytest.mark.slow) for how in ("mixed", "colours", "palette"))]
)
def test_colours_under_alpha_0_do_not_matter(files, cli, how):
    *_, folder = files
    seen, made = {"b": disc(40, 50), "f": disc(20, 24)}, []
    for hidden in (-1, 1):
        for seed, (name, part) in enumerate(seen.items()):
            colours = np.where(part, smooth(seed, *part.shape[:2]), np.float32(hidden))
            save(folder / f"{name}.png", colours, part.astype(np.float32))
        for size in ("1", "1.3"):
            out = folder / f"{hidden}-{size}.png"
            cli(0, "compose", folder / "b.png", folder / "f.png", "--how", how, "--size", size, "--out", out)
            made.append(load(out))
    for one, other in zip(made[:2], made[2:], strict=True):
        assert np.array_equal(one, other) and one[..., 3].any()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--size", "inf"), "--size must be a finite number, not inf"),
        (("--masks", "black"), "black.png is all black"),
        (("--at", "here"), "--at must be pixels down and right, such as 20,100, not 'here'."),
        (("--at", "0,0", "1,1"), "--at needs one value, such as 20,100, per foreground: 1, not 2."),
        (("--at", "40,50"), "Nothing of .* would be visible"),
        (("--how", "harmonise"), "--with names the run for --how adain or harmonise"),
        (("--with", "bicubic", "--how", "harmonise"), "There is no run folder bicubic: .* --preset harmonisation."),
        (("--with", "bicubic", "--how", "adain"), "There is no run folder bicubic: .* --preset adain."),
        (("--masks", "B"), "The mask .* is 40x50, .* is 20x24"),
        (("--out", "B"), "would be replaced by its own output"),
        (("--out", "there.gif"), "--out must end in .png, .jpg"),
        (("--size", "0"), "--size must be above 0, not 0."),
    ],
)
def test_a_composition_that_cannot_be(files, cli, more, sentence):
    background, foreground, folder = files
    kept = background.read_bytes()
    black = save(folder / "black.png", np.full((20, 24, 1), -1, np.float32))
    more = [{"B": background, "black": black}.get(word, word) for word in more]
    out = () if "--out" in more else ("--out", folder / "o.png")
    said = cli(2, "compose", background, foreground, *more, *out)
    assert re.search(sentence, said), said
    assert background.read_bytes() == kept and not (folder / "o.png").exists()


@pytest.fixture(scope="module")
def harmoniser(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("compose") / "run", "translation", "harmonisation")


@pytest.fixture(scope="module")
def stylist(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("compose") / "run", "translation", "adain")


def composed(files, cli, *more) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return background, foreground, and what they became, the foreground at 5,20; all else is checked."""
    background, foreground, folder = files
    cli(0, "compose", background, foreground, "--at", "5,20", *more, "--out", folder / "o.png")
    made, below = load(folder / "o.png"), load(background)
    seen = load(foreground)[..., 3] > 0
    outside = np.ones((40, 50), bool)
    outside[5:25, 20:44] = ~seen
    assert np.array_equal(made[outside], below[outside])
    return below[5:25, 20:44][seen], load(foreground)[seen], made[5:25, 20:44][seen]


@pytest.fixture
def cut_out(files):
    background, foreground, folder = files
    save(foreground, smooth(1, 20, 24), disc(20, 24).astype(np.float32))
    return background, foreground, folder


def test_a_foregrounds_features_get_the_backgrounds_moments(cut_out, cli, stylist, monkeypatch):
    found, original = [], AdaIN.styled

    def styled(self, code, style, whole, share):
        made = original(self, code, style, whole, share)
        jax.debug.callback(lambda *x: found.append(x), made, whole, style, share)
        return made

    monkeypatch.setattr(AdaIN, "styled", styled)
    _, above, made = composed(cut_out, cli, "--how", "adain", "--with", stylist)
    assert np.abs(made - above[:, :3]).mean() > 2
    [(code, own, style, share)] = [[np.asarray(x, np.float64) for x in one] for one in found]
    assert 0.05 < (share > 0).mean() < 0.8 and share.sum() == pytest.approx(1)

    def moments(x, share):
        mean = (x * share).sum((1, 2))
        return mean, (np.square(x - mean[:, None, None]) * share).sum((1, 2))

    (mean, variance), (_, before) = moments(code, share), moments(own, share)
    wanted, spread = moments(style, 1 / style[0, ..., 0].size)
    np.testing.assert_allclose(mean, wanted, atol=1e-4)
    np.testing.assert_allclose(variance, (spread + 1e-5) * before / (before + 1e-5), atol=1e-5)


def test_a_net_harmonises_what_is_pasted(cut_out, cli, harmoniser):
    below, above, made = composed(cut_out, cli, "--how", "harmonise", "--with", harmoniser)
    assert np.abs(made - above[:, :3]).max() > 2 and np.abs(made - below).max() > 2


@pytest.mark.slow
def test_the_harmonisers_loss_by_value():
    """Squared error over the part alone, divided by its pixels, but by `smallest` where it has fewer."""
    model = replace(zoo.load("harmonisation").tiny.model, smallest=60.0)
    clean = np.stack([smooth(seed, 16, 16) for seed in range(6)])

    @jax.jit
    def played(clean, key):
        context = Context({}, {}, {}, jnp.zeros((), jnp.int32))
        params, _ = model.init(key)
        params = jax.tree.map(lambda x: x + 0.1, params)
        given = model.pasted(clean, jax.random.split(key, len(clean)))
        return given, model.made(params, context, given), model.loss(params, context, {"image": clean}, key)[0]

    given, made, loss = jax.tree.map(np.asarray, played(clean, jax.random.key(0)))
    values = []
    for x, y, degraded, region in zip(clean, made, given["degraded"], given["region"][..., 0] > 0, strict=True):
        assert np.array_equal(degraded[~region], x[~region]) and np.array_equal(y[~region], x[~region])
        assert np.abs(degraded[region] - x[region]).max() > 0.02
        values.append(np.square(y[region] - x[region]).mean(1).sum() / max(region.sum(), 60))
    areas = given["region"].sum((1, 2, 3))
    assert areas.min() < 60 < areas.max()
    assert loss == pytest.approx(np.mean(values), rel=1e-5)


def test_a_run_of_another_kind_is_refused(cut_out, cli, harmoniser, stylist):
    background, foreground, _ = cut_out
    said = cli(2, "compose", background, foreground, "--how", "adain", "--with", harmoniser)
    assert "is not an AdaIN run: --with needs a run of train.translation --preset adain." in said
    said = cli(2, "compose", background, foreground, "--how", "harmonise", "--with", stylist)
    assert "restores no images" in said
    small = save(background, smooth(0, 16, 40))
    said = cli(2, "compose", small, foreground, "--how", "adain", "--with", stylist)
    assert "needs a background of at least 18x18, not 16x40." in said
