// The points of a map, written into pixels by hand: tens of thousands a frame, where paths would take a tenth of a second.

/** How much of each pixel a dot covers, row by row from its top left corner: { side, shares }. */
export function dot(radius) {
  const side = 2 * Math.ceil(radius) + 1;
  const middle = (side - 1) / 2;
  const shares = new Float32Array(side * side);
  for (let place = 0; place < shares.length; place++) {
    const away = Math.hypot((place % side) - middle, Math.floor(place / side) - middle);
    shares[place] = Math.min(Math.max(radius + 0.5 - away, 0), 1);
  }
  return { side, shares };
}

/** "#2f6fb0" -> its bytes as a little-endian pixel without opacity. */
export const packed = (color) => {
  const number = parseInt(color.slice(1), 16);
  return ((number & 0xff) << 16) | (number & 0xff00) | (number >> 16);
};

/**
 * Dots of `radius` at xs, ys of a chart into `pixels` (a Uint32Array of width * height), `ratio` pixels to one of the
 * chart's. `colors[groups[i]]` is a dot's colour, `opacities[groups[i]]` how opaque it is. The more opaque one wins.
 */
export function paint(pixels, width, height, ratio, chart, groups, colors, opacities, radius) {
  pixels.fill(0);
  const { side, shares } = dot(radius * ratio);
  const half = (side - 1) / 2;
  const scale = chart.view.scale * ratio;
  const left = (chart.width * ratio) / 2 - chart.view.x * scale;
  const top = (chart.height * ratio) / 2 + chart.view.y * scale;
  const { xs, ys } = chart;
  for (let point = 0; point < xs.length; point++) {
    const column = Math.round(xs[point] * scale + left) - half;
    const row = Math.round(top - ys[point] * scale) - half;
    if (column < 0 || row < 0 || column + side > width || row + side > height) continue;
    const color = colors[groups[point]];
    const opacity = opacities[groups[point]] * 255;
    for (let down = 0, at = 0; down < side; down++) {
      let pixel = (row + down) * width + column;
      for (let across = 0; across < side; across++, at++, pixel++) {
        const alpha = (shares[at] * opacity) & 255;
        if (alpha > pixels[pixel] >>> 24) pixels[pixel] = (alpha << 24) | color;
      }
    }
  }
}
