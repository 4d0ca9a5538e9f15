import numpy as np
import pytest
from synthetic.canvas import UNPAINTED, Canvas, bar, bounds, box, disc, fit


@pytest.fixture
def canvas():
    return Canvas(np.random.default_rng(0), 80, 60)


def test_paint_changes_colour_and_owner_of_the_same_pixels(canvas):
    canvas.paint('ground', [box(-5, -5, 99, 99, (10, 200, 10))], grain=0)
    before = canvas.image.copy()
    canvas.paint(
        'object', [disc(40, 30, 15, 10, (200, 10, 10)), bar((0, 0), (80, 60), 9, (0, 0, 0), False)]
    )
    changed = (canvas.image != before).any(2)
    assert changed.any()
    assert np.array_equal(changed, canvas.owner == 1)


def test_parts_that_are_not_solid_are_clipped_to_the_silhouette(canvas):
    canvas.paint('object', [box(20, 20, 40, 40, (9, 9, 9)), box(0, 0, 79, 59, (250, 0, 0), False)])
    rows, columns = np.nonzero(canvas.owner != UNPAINTED)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 40, 20, 40)


@pytest.mark.parametrize('frame', [(-50, 5, -20, 30), (5, 70, 30, 99), (200, 200, 300, 300)])
def test_objects_outside_the_image_are_not_painted(canvas, frame):
    canvas.paint('object', [box(*frame, (1, 2, 3))])
    assert canvas.objects == []
    assert (canvas.owner == UNPAINTED).all()


def test_darken_changes_colours_but_not_owners(canvas):
    canvas.paint('ground', [box(-5, -5, 99, 99, (100, 100, 100))])
    light, owner = canvas.image.astype(int), canvas.owner.copy()
    canvas.darken(box(10, 10, 30, 30, (0, 0, 0)), 0.5)
    assert np.array_equal(canvas.owner, owner)
    assert canvas.image[20, 20].sum() < light[20, 20].sum()
    assert np.array_equal(canvas.image[50, 60], light[50, 60])


@pytest.mark.parametrize('stretch', [0.5, -0.5])
def test_fit_sets_left_edge_lower_edge_and_height(stretch):
    parts = [box(3, 4, 13, 24, (0, 0, 0)), disc(13, 24, 5, 5, (9, 9, 9))]
    x0, y0, x1, y1 = bounds(fit(parts, left=7, bottom=90, height=50, stretch=stretch))
    assert (x0, y0, y1) == pytest.approx((7, 40, 90))
    assert x1 - x0 == pytest.approx(50 * 0.5 * 15 / 25)


def test_fit_with_the_frame_of_another_drawing():
    bike, rider = [box(0, 0, 10, 20, (0, 0, 0))], [box(2, -10, 8, 10, (9, 9, 9))]
    where = dict(left=50, bottom=80, height=40)
    assert bounds(fit(rider, **where, frame=bounds(bike))) == pytest.approx((54, 20, 66, 60))
