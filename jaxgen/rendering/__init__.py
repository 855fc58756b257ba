"""Physics-based rendering: scenes of spheres and triangles, and a differentiable path tracer."""
