"""Vector shapes: what is drawn is what their SVG shows, and gradients reach every outline."""

import re
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tandem.guidance.fourier import FourierPicture
from tandem.guidance.shapes import KINDS, ShapePicture
from tandem.guidance.svg import document
from tandem.guidance.views import Augmentation, draw_views, total_variation


def shapes(count: int = 12, seed: int = 0, height: int = 40, width: int = 60) -> ShapePicture:
    """Shapes of all kinds whose parameters are no longer those of the beginning."""
    draw = torch.Generator().manual_seed(seed)
    picture = ShapePicture(height, width, draw, count=count)
    with torch.no_grad():
        for parameter in picture.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.15)
        picture.colour *= 4
        picture.opacity += torch.linspace(-1, 2, count)
    return picture


def pixels(picture: ShapePicture, height: int, width: int) -> np.ndarray:
    return (picture.render(height, width).permute(1, 2, 0).numpy() * 255).round()


def test_gradients_reach_every_parameter_of_every_shape() -> None:
    picture = shapes()
    (picture(0.0) ** 2).sum().backward()
    for name, parameter in picture.named_parameters():
        assert parameter.grad is not None, name
        moved = parameter.grad.reshape(len(parameter), -1).abs().sum(dim=1)
        assert bool((moved > 0).all()), name


def test_a_gradient_is_the_difference_it_predicts() -> None:
    """Each kind's outline: a small step along the gradient changes the picture as much as the gradient says."""
    for name in ("ellipse_radii", "polygon_points", "stroke_points", "stroke_width", "circle_radius"):
        picture = shapes(8)
        target = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(1))
        loss = ((picture(0.0) - target) ** 2).sum()
        loss.backward()
        parameter = dict(picture.named_parameters())[name]
        assert parameter.grad is not None
        length, step = float(parameter.grad.norm()), 1e-3
        with torch.no_grad():
            parameter -= step / length * parameter.grad
            fallen = float(loss) - float(((picture(0.0) - target) ** 2).sum())
        assert fallen == pytest.approx(step * length, rel=0.15), name


def test_the_last_shape_is_in_front_and_opacity_mixes() -> None:
    picture = ShapePicture(20, 20, torch.Generator(), count=4)  # an ellipse, a polygon, a stroke, and in front a circle
    with torch.no_grad():
        picture.circle_centre.fill_(0.5)
        picture.circle_radius.fill_(float(np.log(0.3)))
        picture.colour.fill_(-20)
        picture.colour[3] = 20.0
        picture.opacity.fill_(20)
        assert picture.render(20, 20)[:, 10, 10].tolist() == pytest.approx([1, 1, 1], abs=1e-5)
        picture.opacity[:3] = -20
        picture.opacity[3] = 0.0
        picture.background.fill_(-20)
        assert picture.render(20, 20)[:, 10, 10].tolist() == pytest.approx([0.5] * 3, abs=1e-5)


def test_elements_are_in_the_order_of_drawing_and_of_the_kinds() -> None:
    _, elements = shapes(9).elements(40, 60)
    written = [re.match(r"<(\w+)", element)[1] for element in elements]  # type: ignore[index]
    named = {"stroke": "path"}
    assert written == [named.get(KINDS[i % 4], KINDS[i % 4]) for i in range(9)]


@pytest.mark.browser
@pytest.mark.parametrize(("seed", "width"), [(0, 300), (1, 200)])
def test_a_browser_draws_the_svg_as_the_raster_is(browser: Any, seed: int, width: int) -> None:
    height, picture = 200, shapes(24, seed, 40, 40 * width // 200)
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_content(f"<body style='margin:0'>{document(width, height, *picture.elements(height, width))}</body>")
    seen = np.asarray(Image.open(BytesIO(page.screenshot())).convert("RGB"), dtype=float)
    page.close()
    apart = np.abs(seen - pixels(picture, height, width))
    assert seen.std() > 20  # something is drawn
    assert apart.mean() < 1.5  # of 255
    assert np.quantile(apart.max(axis=2), 0.99) < 40  # edges alone differ, by how they are smoothed


def test_a_photo_gives_shapes_their_first_colours() -> None:
    photo = torch.zeros(3, 20, 30)
    photo[0] = 1.0
    picture = ShapePicture(20, 30, torch.Generator(), count=6, start=photo)
    assert picture.render(20, 30).mean(dim=(1, 2)).tolist() == pytest.approx([0.98, 0.02, 0.02], abs=0.01)


# --- Fourier coefficients ------------------------------------------------------------------------------------------


def test_a_larger_rendering_is_the_same_picture() -> None:
    picture = FourierPicture(16, 24, torch.Generator().manual_seed(0), decay=1.5)
    with torch.no_grad():
        picture.spectrum *= 20
        small = picture()
    np.testing.assert_allclose(picture.render(16, 24).numpy(), small.detach().numpy(), atol=1e-5)
    # Every second pixel of twice the size stands where a pixel was: the waves are the same ones.
    np.testing.assert_allclose(picture.render(32, 48)[:, ::2, ::2].numpy(), small.detach().numpy(), atol=2e-2)
    assert picture.render(8, 12).shape == (3, 8, 12)
    assert picture.render(31, 47).shape == (3, 31, 47)


def test_a_photo_without_a_change_is_the_photo() -> None:
    photo = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    picture = FourierPicture(12, 16, torch.Generator(), start=photo)
    with torch.no_grad():
        picture.spectrum.zero_()
        np.testing.assert_allclose(picture().numpy(), photo.numpy(), atol=1e-5)
        np.testing.assert_allclose(picture.render(12, 16, photo).numpy(), photo.numpy(), atol=1e-5)


def test_a_narrow_band_is_smoother() -> None:
    picture = FourierPicture(32, 32, torch.Generator().manual_seed(0), decay=0.5)
    with torch.no_grad():
        assert float(total_variation(picture(0.1))) < 0.5 * float(total_variation(picture(1.0)))


# --- views ---------------------------------------------------------------------------------------------------------


def test_views_differ_are_drawn_from_the_generator_and_have_gradients() -> None:
    picture = torch.rand(3, 24, 40, generator=torch.Generator().manual_seed(0)).requires_grad_()
    views, again = (draw_views(picture, 6, 16, torch.Generator().manual_seed(5), Augmentation()) for _ in range(2))
    assert views.shape == (6, 3, 16, 16)
    assert torch.equal(views, again)
    assert len({round(float(view.detach().mean()), 4) for view in views}) == 6
    views.sum().backward()
    assert picture.grad is not None
    assert float((picture.grad.abs().sum(dim=0) > 0).float().mean()) > 0.8  # almost all of it is in some view


def test_a_whole_view_is_the_picture() -> None:
    how = Augmentation(1.0, 1.0, turn=0, stretch=0, light=0, contrast=0, noise=0, flips=False)
    plain = torch.full((3, 16, 16), 0.25)
    plain[:, :8] = 0.75
    view = draw_views(plain, 4, 16, torch.Generator().manual_seed(0), how)
    assert float(view[:, :, 2:5].mean()) == pytest.approx(0.75, abs=0.01)
    assert float(view[:, :, 11:14].mean()) == pytest.approx(0.25, abs=0.01)
