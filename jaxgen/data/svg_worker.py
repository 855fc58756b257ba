"""A process that draws SVGs for jaxgen.data.svg: a line of JSON in, a line of JSON out. It imports nothing of jaxgen.

resvg overflows the stack on deep SVGs, and nothing else can stop it when it takes too long.
"""

import base64
import io
import json
import signal
import sys


def drawn(svg: str) -> bytes:
    """Return an SVG on white as a PNG in RGB, of the SVG's own size. Raises ValueError if it can't be drawn."""
    import resvg_py
    from PIL import Image

    # Fonts would make an image depend on the machine.
    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True))
    with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
        image = opened.convert("RGBA")
    if image.getchannel("A").getextrema()[1] == 0:
        raise ValueError("it draws nothing")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    out = io.BytesIO()
    white.convert("RGB").save(out, "PNG")
    return out.getvalue()


def main(seconds: int):
    """Answer {"svg": ...} by {"png": ...} in base 64, or {"fault": ...}; an SVG that takes longer ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    for line in sys.stdin:
        signal.alarm(seconds)
        try:
            reply = {"png": base64.b64encode(drawn(json.loads(line)["svg"])).decode()}
        except ImportError:
            raise
        except BaseException as error:  # a panic of resvg is none of Exception
            reply = {"fault": (str(error) or type(error).__name__).splitlines()[0].rstrip(".")}
        signal.alarm(0)
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
