"""Convolutions and their gradients as XLA's CPU compiler likes them: one convolution each, [n h w c] with [h w i o].

XLA rewrites other layouts, which jax.grad makes, into this one; but not inside of loops, where it then computes them
element by element, 50 to 100 times slower. So it does where a window has more pixels than the image, for it exchanges
the two: there the formulations for CPUs are taken.
"""

import math

from jax import Array, lax

from jaxgen.nn.conv_forms import (
    LAYOUT,
    Geometry,
    cpu_conv,
    cpu_input_grad,
    per_axis,
    xla_conv,
    xla_input_grad,
    xla_kernel_grad,
)


def plain_conv(x: Array, k: Array, geometry: Geometry) -> Array:
    """Return y of x and the kernel."""
    return (cpu_conv if _is_small(geometry) else xla_conv)(x, k, geometry)


def _is_small(geometry: Geometry) -> bool:
    return geometry.groups == 1 and math.prod(geometry.image) < math.prod(geometry.window)


def plain_input_grad(y: Array, k: Array, geometry: Geometry) -> Array:
    """Return dx of dy and the kernel: a convolution of the dilated dy with the flipped kernel."""
    if _is_small(geometry):
        return cpu_input_grad(y, k, geometry)
    sizes = geometry.image, geometry.output, geometry.spans, geometry.pads, geometry.strides
    pads = per_axis(lambda size, out, span, pad, s: (span - 1 - pad[0], size - 1 + pad[0] - s * (out - 1)), *sizes)
    if geometry.groups > 1 or min(*pads[0], *pads[1]) < 0:  # XLA is wrong where it crops (conv_forms.py)
        return xla_input_grad(y, k, geometry)
    k = lax.rev(k, (0, 1)).swapaxes(2, 3)
    options = {"lhs_dilation": geometry.strides, "rhs_dilation": geometry.dilation, "dimension_numbers": LAYOUT}
    return lax.conv_general_dilated(y, k, (1, 1), pads, **options)


def plain_kernel_grad(x: Array, y: Array, geometry: Geometry) -> Array:
    """Return dk of x and dy: a convolution over the pixels, whose channels are the examples."""
    if geometry.groups > 1:
        return xla_kernel_grad(x, y, geometry)
    sizes = geometry.image, geometry.output, geometry.spans, geometry.pads, geometry.strides
    pads = per_axis(lambda size, out, span, pad, s: (pad[0], span + s * (out - 1) - size - pad[0]), *sizes)
    turned = geometry._replace(strides=geometry.dilation, dilation=geometry.strides, pads=pads)
    made = xla_conv(x.transpose(3, 1, 2, 0), y.transpose(1, 2, 0, 3), turned)  # [i h w n], [h w n o] -> [i kh kw o]
    return made.transpose(1, 2, 0, 3)
