import numpy as np
import pytest
from synthetic.canvas import Canvas, bounds
from synthetic.drawings import KINDS, draw_object


@pytest.mark.parametrize('kind', range(20))
def test_drawings_are_connected(kind):
    """A loose piece would be missing from image and annotation."""
    rng = np.random.default_rng(3)
    for _ in range(3):
        canvas = Canvas(rng, 400, 220)
        parts = draw_object(rng, kind, 400, 220, 0.6)
        left, top, *_ = bounds(parts)
        parts = [part._replace(points=part.points - (left - 9, top - 9)) for part in parts]
        canvas.paint('object', parts)
        polygon = canvas.objects[0].polygon
        painted = np.array([*polygon.min(0), *polygon.max(0)])
        assert np.abs(np.array(bounds(parts)) - painted).max() <= 1.5


def test_a_thousand_kinds_are_distinct():
    """With equal random numbers, each kind gives another drawing."""
    assert KINDS == 1000
    drawings = set()
    for kind in range(KINDS):
        parts = draw_object(np.random.default_rng(0), kind, 100, 100, 0.5)
        drawings.add(tuple((part.points.tobytes(), part.colour) for part in parts))
    assert len(drawings) == KINDS
