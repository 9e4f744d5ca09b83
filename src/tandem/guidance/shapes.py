"""A picture of vector shapes, drawn so softly that gradients reach their outlines; the same shapes as SVG elements.

Circles, ellipses, polygons of five corners and strokes (quadratic Bezier curves with round ends), each of one colour
and opacity, over a plain background, the last in front. Lengths are shares of the canvas's shorter side. Knows nothing
of models.

Shapes of tensors: k shapes of a kind, m all shapes, h rows, w columns.
"""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from tandem.guidance.settings import Settings
from tandem.guidance.svg import document

KINDS = ("ellipse", "polygon", "stroke", "circle")  # shape i is of kind i mod 4
CORNERS = 5
PIECES = 12  # straight ones that a stroke's curve is drawn in
SOFTEST, CRISPEST = 2.0, 0.5  # deviations of an edge in pixels of the canvas, at the beginning and at the end
GEOMETRY_RATE, COLOUR_RATE = 0.01, 0.05  # of Adam
LARGEST, SMALLEST = 0.4, 0.08  # radii before the first step: the first shapes are the background's
_NEAR_ZERO = 1e-6


class ShapePicture(nn.Module):
    """`count` shapes on a background; with `start`, in the colours that a photo has where they begin."""

    variation = 0.0

    def __init__(
        self, height: int, width: int, draw: torch.Generator, *, count: int, start: Tensor | None = None
    ) -> None:
        super().__init__()
        self.height, self.width, self.count = height, width, count
        shorter = min(height, width)
        spread = torch.tensor([width / shorter, height / shorter])
        centre = torch.rand(count, 2, generator=draw) * spread  # [m 2]
        radius = LARGEST * (SMALLEST / LARGEST) ** (torch.arange(count) / max(count - 1, 1))  # [m]
        turn = torch.rand(count, generator=draw) * math.pi
        of = {kind: torch.arange(i, count, len(KINDS)) for i, kind in enumerate(KINDS)}
        self.order = torch.cat([of[kind] for kind in KINDS]).argsort()  # from kind after kind to front after back

        self.ellipse_centre = nn.Parameter(centre[of["ellipse"]])
        self.ellipse_radii = nn.Parameter(radius[of["ellipse"], None].log().repeat(1, 2))
        self.ellipse_turn = nn.Parameter(turn[of["ellipse"]])

        angles = turn[of["polygon"], None] + torch.arange(CORNERS) * (2 * math.pi / CORNERS)  # [k corners]
        around = torch.stack([angles.cos(), angles.sin()], dim=-1) * radius[of["polygon"], None, None]
        self.polygon_points = nn.Parameter(centre[of["polygon"], None] + around)

        along = torch.stack([turn[of["stroke"]].cos(), turn[of["stroke"]].sin()], dim=-1)[:, None]  # [k 1 2]
        reach = radius[of["stroke"], None, None] * torch.tensor([-1.0, 0.0, 1.0])[:, None]
        self.stroke_points = nn.Parameter(centre[of["stroke"], None] + along * reach)  # [k 3 2]
        self.stroke_width = nn.Parameter((radius[of["stroke"]] / 2).log())

        self.circle_centre = nn.Parameter(centre[of["circle"]])
        self.circle_radius = nn.Parameter(radius[of["circle"]].log())

        if start is None:
            self.colour = nn.Parameter(torch.randn(count, 3, generator=draw) * 0.5)
            self.background = nn.Parameter(torch.zeros(3))
        else:
            columns, rows = (centre * shorter).long().T
            of_photo = torch.logit(start.clamp(0.02, 0.98))
            self.colour = nn.Parameter(of_photo[:, rows.clamp(max=height - 1), columns.clamp(max=width - 1)].T.clone())
            self.background = nn.Parameter(of_photo.mean(dim=(1, 2)))
        self.opacity = nn.Parameter(torch.full((count,), 0.5))

    @classmethod
    def begin(cls, settings: Settings, height: int, width: int, draw: torch.Generator, start: Tensor | None) -> Self:
        """A picture before the first step, of as many shapes as the settings say."""
        assert settings.shapes is not None
        return cls(height, width, draw, count=settings.shapes, start=start)

    def groups(self) -> list[dict[str, Any]]:
        """Places and lengths at one rate, colours at another."""
        geometry = dict(self.named_parameters())
        colours = [geometry.pop(name) for name in ("colour", "background", "opacity")]
        return [
            {"params": list(geometry.values()), "peak": GEOMETRY_RATE},
            {"params": colours, "peak": COLOUR_RATE},
        ]

    def canvas(self, done: float) -> Tensor:
        """As `forward`."""
        canvas: Tensor = self(done)
        return canvas

    def svg(self, height: int, width: int) -> str | None:
        """The picture as an SVG document of that size."""
        return document(width, height, *self.elements(height, width))

    def forward(self, done: float = 1.0) -> Tensor:
        """The working canvas [3 h w] in 0..1; edges are softer the less of the run is `done` (0..1)."""
        softness = SOFTEST * (CRISPEST / SOFTEST) ** done
        distance = self._distances(self.height, self.width)
        return self._composed(torch.sigmoid(distance * min(self.height, self.width) / softness))

    @torch.no_grad()
    def render(self, height: int, width: int, start: Tensor | None = None) -> Tensor:
        """The picture at another size [3 H W] in 0..1, with edges of one pixel, as SVG renderers draw them.

        `start` changes nothing: shapes cover the photo that they began from.
        """
        pixels = self._distances(height, width) * min(height, width)
        return self._composed((pixels + 0.5).clamp(0, 1))

    def _composed(self, coverage: Tensor) -> Tensor:
        """Coverage [m h w] -> [3 h w], shape over shape."""
        alpha = coverage * torch.sigmoid(self.opacity)[:, None, None]
        colour = torch.sigmoid(self.colour)
        # What is seen of a shape is what all shapes in front of it let through.
        passed = torch.cumprod(torch.cat([torch.ones_like(alpha[:1]), 1 - alpha.flip(0)]), dim=0)  # [1+m h w]
        seen = alpha * passed[:-1].flip(0)
        behind = torch.sigmoid(self.background)[:, None, None] * passed[-1]
        return torch.einsum("mc,mhw->chw", colour, seen) + behind

    def _distances(self, height: int, width: int) -> Tensor:
        """How far each pixel is inside of each shape [m h w]; negative outside."""
        shorter = min(height, width)
        rows, columns = (torch.arange(height) + 0.5) / shorter, (torch.arange(width) + 0.5) / shorter
        at = torch.stack([columns[None].expand(height, -1), rows[:, None].expand(-1, width)], dim=-1)  # [h w 2]
        found = [
            _in_ellipses(at, self.ellipse_centre, self.ellipse_radii.exp(), self.ellipse_turn),
            _in_polygons(at, self.polygon_points),
            _in_strokes(at, _curves(self.stroke_points), self.stroke_width.exp()),
            self.circle_radius.exp()[:, None, None] - _length(at - self.circle_centre[:, None, None]),
        ]
        return torch.cat(found)[self.order]

    @torch.no_grad()
    def elements(self, height: int, width: int) -> tuple[str, list[str]]:
        """The background's colour and the shapes as SVG elements, from back to front, in pixels of that size."""
        shorter = min(height, width)

        def numbers(*values: Tensor) -> str:
            return " ".join(f"{float(value) * shorter:.2f}" for value in values)

        made = []
        for centre, radii, turn in zip(self.ellipse_centre, self.ellipse_radii.exp(), self.ellipse_turn, strict=True):
            x, y, across, down = numbers(*centre, *radii).split()
            place = f"translate({x} {y}) rotate({math.degrees(float(turn)):.2f})"
            made.append(f'<ellipse rx="{across}" ry="{down}" transform="{place}" fill="{{colour}}" {{opacity}}/>')
        for points in self.polygon_points:
            corners = numbers(*points.flatten())
            made.append(f'<polygon points="{corners}" fill-rule="evenodd" fill="{{colour}}" {{opacity}}/>')
        for points, wide in zip(self.stroke_points, self.stroke_width.exp(), strict=True):
            begin, bend, end = (numbers(*point) for point in points)
            made.append(
                f'<path d="M {begin} Q {bend} {end}" stroke-width="{numbers(wide)}" stroke-linecap="round" '
                'stroke-linejoin="round" fill="none" stroke="{colour}" {opacity}/>'
            )
        for centre, radius in zip(self.circle_centre, self.circle_radius.exp(), strict=True):
            x, y, across = numbers(*centre, radius).split()
            made.append(f'<circle cx="{x}" cy="{y}" r="{across}" fill="{{colour}}" {{opacity}}/>')
        ordered = [made[int(i)] for i in self.order]
        colours, opacities = torch.sigmoid(self.colour), torch.sigmoid(self.opacity)
        return _hex(torch.sigmoid(self.background)), [
            element.format(colour=_hex(colour), opacity=f'opacity="{float(opacity):.3f}"')
            for element, colour, opacity in zip(ordered, colours, opacities, strict=True)
        ]


def _hex(colour: Tensor) -> str:
    return "#" + "".join(f"{round(float(value) * 255):02x}" for value in colour)


def _length(vectors: Tensor) -> Tensor:
    """[... 2] -> [...], with a gradient at zero too."""
    return torch.sqrt((vectors**2).sum(dim=-1) + _NEAR_ZERO**2)


def _in_ellipses(at: Tensor, centre: Tensor, radii: Tensor, turn: Tensor) -> Tensor:
    """Distances to first order: f / |grad f| of f = 1 - |p / radii|; exact on the outline, where it matters."""
    apart = at - centre[:, None, None]  # [k h w 2]
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    own = torch.stack([apart[..., 0] * cos + apart[..., 1] * sin, apart[..., 1] * cos - apart[..., 0] * sin], dim=-1)
    scaled = own / radii[:, None, None]
    reach = _length(scaled)
    return (1 - reach) * reach / _length(scaled / radii[:, None, None])


def _curves(points: Tensor) -> Tensor:
    """Control points [k 3 2] -> the corners of straight pieces along the curve [k pieces+1 2]."""
    t = torch.linspace(0, 1, PIECES + 1)[:, None]
    begin, bend, end = points[:, None].unbind(dim=2)
    return (1 - t) ** 2 * begin + 2 * t * (1 - t) * bend + t**2 * end


def _to_pieces(at: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """The distance from every pixel to the nearest of some straight pieces [k pieces 2] each: [k h w]."""
    nearest = None
    for i in range(begin.shape[1]):
        first, along = begin[:, i, None, None], (end - begin)[:, i, None, None]  # [k 1 1 2]
        apart = at - first
        share = ((apart * along).sum(-1) / ((along**2).sum(-1) + _NEAR_ZERO)).clamp(0, 1)
        distance = _length(apart - share[..., None] * along)
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
    assert nearest is not None
    return nearest


def _in_polygons(at: Tensor, points: Tensor) -> Tensor:
    """Distances to outlines, positive where a ray crosses the outline an odd number of times."""
    following = points.roll(-1, dims=1)
    inside = torch.zeros(len(points), *at.shape[:2], dtype=torch.bool)
    x, y = at.detach().unbind(dim=-1)
    for i in range(points.shape[1]):
        (x1, y1), (x2, y2) = (each.detach()[:, i, :, None, None].unbind(dim=1) for each in (points, following))
        crosses = (y1 > y) != (y2 > y)
        rise = torch.where((y2 - y1).abs() < _NEAR_ZERO, torch.full_like(y1, _NEAR_ZERO), y2 - y1)
        inside ^= crosses & (x < x1 + (y - y1) / rise * (x2 - x1))
    distance = _to_pieces(at, points, following)
    return torch.where(inside, distance, -distance)


def _in_strokes(at: Tensor, corners: Tensor, width: Tensor) -> Tensor:
    return width[:, None, None] / 2 - _to_pieces(at, corners[:, :-1], corners[:, 1:])
