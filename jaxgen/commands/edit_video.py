"""python -m jaxgen edit-video: clips cut, joined, retimed, stabilised, denoised, enlarged, painted, captioned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxgen.core.errors import InputError, at_least
from jaxgen.core.progress import progress
from jaxgen.media import containers, marks, xmp
from jaxgen.media.video_edits import timeline, writing
from jaxgen.media.video_edits.footage import Footage, footage_of, open_footage
from jaxgen.media.video_edits.stabilisation import Border, Camera
from jaxgen.media.video_edits.text import Place

if TYPE_CHECKING:
    from jaxgen.media.marks import Mark
    from jaxgen.media.video_edits.footage import Stage

Clips = Annotated[
    tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="CLIP ...", help_behavior_hint="(one or more)")
]
With = Annotated[str, tyro.conf.arg(name="with", metavar="RUN|WEIGHTS|NAME")]
Parts = Annotated[tuple[str, ...], tyro.conf.arg(metavar="START:END ...")]


@dataclass(frozen=True)
class Cut:
    """The parts of the clips that are kept, joined, and their speed."""

    cut: Parts = ()
    """seconds that are kept, such as 3:8, 3: or :8; several parts of one clip are joined; for several clips one each"""
    fade: float = 0.0
    """seconds of the cross-fade between joined parts"""
    speed: float | None = None
    """times as fast, from 1/16 to 16, at the same pitch; there are never more frames per second than before"""
    slow: float | None = None
    """times as slow: --slow 2 is --speed 0.5; with --interpolate 2 it moves as smoothly as before"""


@dataclass(frozen=True)
class Stabilise:
    """The camera's motion."""

    stabilise: bool = False
    """smooth the camera's motion, without a net"""
    camera: Camera = "similarity"
    """the motion from frame to frame: similarity (shift, turn, zoom), or homography (also tilt)"""
    smooth: float = 1.0
    """seconds before and after a frame over which its motion is smoothed"""
    border: Border = "crop"
    """crop: enlarge by a tenth, so that no border is seen; fill: keep the scale, and fill from earlier frames"""


@dataclass(frozen=True)
class Improve:
    """The pixels."""

    denoise: bool = False
    """remove noise: the mean of five frames along the optical flow, before and after it the shipped net"""
    remove: Path | None = None
    """remove what is white in this mask, an image or a clip: other frames or its surroundings fill the place"""
    fill_with: Annotated[str, tyro.conf.arg(metavar="RUN|WEIGHTS|NAME")] = ""
    """a model that fills in what no frame shows, such as a run of gated-conv"""
    upscale: int | None = None
    """enlarge 2, 3 or 4 times, by shipped weights, frame by frame"""
    with_: With = ""
    """the model for --upscale, or for --interpolate and --fps a run of rife or mcvd: a run, a file of weights, the name
    of trained weights, or bicubic"""
    net: bool = True
    """--no-net: --denoise and --upscale do without nets; no mark is needed then"""


@dataclass(frozen=True)
class Style:
    """The style."""

    style: tuple[str, ...] = ()
    """paint in these styles: names, or with a run of adain images; frames are made consistent over time"""
    style_with: Annotated[str, tyro.conf.arg(metavar="RUN|WEIGHTS|NAME")] = ""
    """the model that paints, which may know one style; unset: weights that paint the named styles"""
    strength: float = 1.0
    """strength of the style, from 0 to 1"""
    steady: float = 0.7
    """from 0 to 1: how far painted frames are pulled to the one before, against flicker"""


@dataclass(frozen=True)
class Rate:
    """The frames per second."""

    interpolate: int | None = None
    """so many frames for one, from 2 to 16, along the optical flow, without a net; --with names one"""
    fps: float | None = None
    """so many frames per second, from 1 to 240, interpolated likewise; the clip lasts as long as before"""


@dataclass(frozen=True)
class Text:
    """A text."""

    text: str = ""
    """white text with a dark outline; \\n begins a new line"""
    text_place: Place = "bottom"
    """where it is shown"""
    text_time: Annotated[str, tyro.conf.arg(metavar="START:END")] = "0:"
    """when it is shown, in seconds of the finished clip"""
    text_size: float = 1 / 14
    """the height of its letters, in heights of the frame"""
    font: Path | None = None
    """a .ttf or .otf file; unset: one with Latin letters"""


Flat = tyro.conf.arg(name="")


def edit_video(
    clip: Clips,
    out: Path | None = None,
    cut: Annotated[Cut, Flat] = Cut(),
    stabilise: Annotated[Stabilise, Flat] = Stabilise(),
    improve: Annotated[Improve, Flat] = Improve(),
    style: Annotated[Style, Flat] = Style(),
    rate: Annotated[Rate, Flat] = Rate(),
    text: Annotated[Text, Flat] = Text(),
    overwrite: bool = False,
):
    """Edit video clips: cut, join, speed up, slow down, stabilise, denoise, enlarge, paint, interpolate, caption.

    All edits of a command are done in one pass, in the order of this help. Frames are streamed: clips can have any
    length. The sound stays in sync; where its time does not change it is copied. Videos are written upright, with
    8 bits and without transparency, which becomes white. H.264 needs even sides: an odd one gets its last line twice.

    Args:
        clip: video files, animated GIF, WebP or PNG images, or folders of frames; several are joined, in the size of
            the first
        out: the output file: a .mp4 (H.264), .webm (VP9) or .mkv (lossless FFV1); unset: CLIP-edited.mp4
        overwrite: replace existing files
    """
    if not clip:
        raise InputError("Name a clip.")
    target = out or clip[0].with_name(f"{clip[0].stem}-edited.mp4")
    masks = [improve.remove] if improve.remove else []
    writing.check(target, overwrite, [path for path in (*clip, *masks) if path.is_file()])
    _check(cut, stabilise, improve, style, rate, text)
    footage = _opened(clip, cut)
    footage, mark = _edited(footage, stabilise, improve, style, rate, text)
    with progress(f"editing {clip[0].name}", footage.count, unit="frames") as show:
        frames = writing.write(target, footage, mark, show, _packet(clip))
    height, width = footage.size
    print(f"{target}: {width}x{height}, {footage.seconds:.3g} s, {frames} frames")


def _check(cut: Cut, stabilise: Stabilise, improve: Improve, style: Style, rate: Rate, text: Text):
    """Raise InputError for settings that can't be, or not together."""
    at_least(0, **{"--fade": cut.fade, "--smooth": stabilise.smooth})
    if cut.speed is not None and cut.slow is not None:
        raise InputError("--speed and --slow both set the speed: give one of them.")
    if cut.slow is not None and not cut.slow > 0:
        raise InputError(f"--slow must be above 0, not {cut.slow:g}.")
    if rate.interpolate is not None and rate.fps is not None:
        raise InputError("--interpolate and --fps both set the frames per second: give one of them.")
    if improve.with_ and improve.upscale is None and rate.interpolate is None and rate.fps is None:
        raise InputError("--with names the model for --upscale, or for --interpolate: add one of them.")
    if improve.fill_with and improve.remove is None:
        raise InputError("--fill-with fills in what --remove has removed: add it.")
    for name, value in (("--strength", style.strength), ("--steady", style.steady)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must be from 0 to 1, not {value:g}.")
    if not 0.01 <= text.text_size <= 1:
        raise InputError(f"--text-size must be from 0.01 to 1, not {text.text_size:g}.")


def _opened(clips: Sequence[Path], cut: Cut) -> Footage:
    """Return the clips' parts as one, at the speed that is asked for."""
    from jaxgen.media.video_edits.sound import check_speed

    spans = [timeline.span(part, "--cut") for part in cut.cut]
    if len(clips) > 1 and spans and len(spans) != len(clips):
        raise InputError(f"There are {len(spans)} parts in --cut for {len(clips)} clips: give one for each, or none.")
    speed = 1 / cut.slow if cut.slow is not None else cut.speed
    if speed is not None:
        check_speed(speed)
    opened = [open_footage(path) for path in clips]
    if spans:
        sources = [found for _, found in opened] * (len(spans) if len(clips) == 1 else 1)
        parts = [footage_of(found, *part) for found, part in zip(sources, spans, strict=True)]
    else:
        parts = [footage for footage, _ in opened]
    footage = timeline.join(parts, cut.fade)
    return footage if speed is None or speed == 1 else timeline.paced(footage, speed)


def _edited(
    footage: Footage, stabilise: Stabilise, improve: Improve, style: Style, rate: Rate, text: Text
) -> tuple[Footage, "Mark | None"]:
    """Return the footage after the edits, and the mark of the nets that have a part in it."""
    made: list[Mark | None] = []  # the marks of the nets
    connects = bool(improve.with_) and (rate.interpolate is not None or rate.fps is not None)
    if connects:
        from jaxgen.inference.frames_between import connects_frames

        connects = improve.upscale is None or connects_frames(improve.with_)
    if stabilise.stabilise:
        from jaxgen.media.video_edits.stabilisation import stabilised

        reach = max(round(stabilise.smooth * footage.rate), 1)
        footage = footage.through(stabilised(reach, stabilise.camera, stabilise.border))
    if improve.denoise:
        footage = footage.through(_denoising(improve.net, made))
    if improve.remove:
        footage = footage.through(_removal(footage, improve.remove, improve.fill_with, made))
    if improve.upscale is not None:
        from jaxgen.inference.video_editing import enlarger

        factor = improve.upscale
        if not 2 <= factor <= 8:
            raise InputError(f"--upscale must be from 2 to 8, not {factor}.")
        own = "" if connects else improve.with_
        name = own or (_shipped(f"enlarge-x{factor}") if improve.net else "bicubic")
        stage, mark = enlarger(name, factor, footage.size)
        made.append(mark)
        footage = footage.through(stage, factor)
    if style.style or style.style_with:
        footage = footage.through(_painting(style, made))
    if rate.interpolate is not None or rate.fps is not None:
        from jaxgen.media.video_edits import interpolation

        between = interpolation.by_flow
        if connects:
            from jaxgen.inference.frames_between import open_connector

            make, mark = open_connector(improve.with_, footage.size)
            between = interpolation.by_net(make)
            made.append(mark)
        if rate.fps is not None:
            footage = interpolation.at_rate(footage, rate.fps, between)
        else:
            footage = interpolation.multiplied(footage, rate.interpolate or 0, between)
    if text.text:
        footage = footage.through(_caption(footage, text))
    if not made:
        return footage, None
    from jaxgen.inference.video_editing import mark_of

    return footage, mark_of(made)


def _shipped(name: str) -> str:
    """Return the name of weights that ship with the package. Raises InputError where none do."""
    from jaxgen.pretrained import catalogue

    if catalogue.find(name) is None:
        raise InputError(f"No weights {name} ship with this version: name some with --with, or add --no-net.")
    return name


def _denoising(net: bool, made: "list[Mark | None]") -> "Stage":
    from jaxgen.media.video_edits.denoising import denoised

    if not net:
        return denoised()
    from jaxgen.inference.video_editing import frame_model

    model = frame_model(_shipped("denoise"))
    made.append(model.mark)
    return denoised(model.restored)


def _removal(footage: Footage, mask: Path, fill_with: str, made: "list[Mark | None]") -> "Stage":
    from jaxgen.media.video_edits.removal import by_spreading, open_masks, removed

    fill, found = by_spreading, open_masks(mask, footage)
    if fill_with:
        from jaxgen.inference.video_editing import frame_model

        model = frame_model(fill_with, mask=True)
        made.append(model.mark)
        fill = model.filled
    return removed(found, fill)


def _painting(style: Style, made: "list[Mark | None]") -> "Stage":
    from jaxgen.commands.stylize import method_for
    from jaxgen.inference.stylization import StyleRequest, open_stylist
    from jaxgen.inference.video_editing import painted
    from jaxgen.media.video_edits.consistency import steadily

    name = style.style_with or named_painter(style.style, method_for)
    stylist = open_stylist(name, StyleRequest(style.style, strength=style.strength))
    if stylist.iterative:
        raise InputError(f"{name} learns each image for itself, which takes too long for a clip: name a trained model.")
    made.append(stylist.mark)
    return steadily(painted(stylist), style.steady)


def named_painter(styles: Sequence[str], method_for: Any) -> str:
    """Return the weights that paint a style: its own published ones, or what `method_for` finds. Raises InputError."""
    from jaxgen.pretrained import catalogue

    own = f"fast-style-{styles[0]}"
    if len(styles) == 1 and not Path(styles[0]).exists() and catalogue.find(own):
        return own
    return method_for(tuple(styles))


def _caption(footage: Footage, text: Text) -> "Stage":
    from jaxgen.media.video_edits.text import captioned, font_of

    start, end = timeline.span(text.text_time, "--text-time")
    if start >= footage.seconds:
        raise InputError(f"The clip lasts {footage.seconds:.3g} s: --text-time must begin before, not at {start:g}.")
    font = font_of(max(round(text.text_size * footage.size[0]), 6), text.font)
    return captioned(text.text, text.text_place, start, end, footage.size, font)


def _packet(clips: Sequence[Path]) -> bytes:
    """Return the description that the clips bring along; that of one that a net drew, if there is one."""
    found = []
    for path in clips:
        if path.is_file():
            with path.open("rb") as file:
                packet = containers.read_xmp(file)
            found.append((packet and xmp.described(packet)) or b"")
    drawn = [packet for packet in found if marks.source_of(packet) in marks.ARTIFICIAL]
    return next(iter([*drawn, *found]), b"")
