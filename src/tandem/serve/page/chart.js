// Where points of a map are on the screen, and which is under a finger. Arithmetic; knows no elements.
export const COLORS = [
  "#2f6fb0", "#c2571a", "#2e8b6f", "#b03a5b", "#7f8f24", "#7d54b3", "#c08a1e", "#2590a8",
  "#b2489a", "#4f8f3a", "#5560b8", "#a8642f", "#178072", "#cc4b4b", "#6b7785", "#8d7a1f",
];
const MARGIN = 56;
const DEEPEST = 60; // times the view of everything

/** The view of a map: `scale` pixels a unit, and the place (x, y) in the middle of the window. */
export class Chart {
  constructor(images) {
    this.images = images;
    this.xs = Float32Array.from(images, ({ x }) => x);
    this.ys = Float32Array.from(images, ({ y }) => y);
    this.width = this.height = 1;
    const middle = (places) => {
      const sorted = places.slice().sort();
      // A few strays must not make everybody else small.
      const [low, high] = [sorted[Math.floor(sorted.length * 0.002)], sorted[Math.ceil((sorted.length - 1) * 0.998)]];
      return [(low + high) / 2, Math.max(high - low, 1e-6)];
    };
    [this.middleX, this.spanX] = middle(this.xs);
    [this.middleY, this.spanY] = middle(this.ys);
    this.whole = 1;
    this.view = { x: this.middleX, y: this.middleY, scale: 1 };
  }

  resize(width, height) {
    const zoom = this.view.scale / this.whole;
    [this.width, this.height] = [width, height];
    this.whole = Math.min((width - 2 * MARGIN) / this.spanX, (height - 2 * MARGIN) / this.spanY);
    this.view.scale = this.whole * (Number.isFinite(zoom) ? Math.max(zoom, 0.8) : 1);
  }

  everything() {
    return { x: this.middleX, y: this.middleY, scale: this.whole };
  }

  zoom() {
    return this.view.scale / this.whole;
  }

  /** Place of the map -> pixels from the top left corner. y grows upwards on the map. */
  at(x, y) {
    const { view } = this;
    return [(x - view.x) * view.scale + this.width / 2, (view.y - y) * view.scale + this.height / 2];
  }

  back(left, top) {
    const { view } = this;
    return [(left - this.width / 2) / view.scale + view.x, view.y - (top - this.height / 2) / view.scale];
  }

  held(scale) {
    return Math.min(Math.max(scale, this.whole * 0.7), this.whole * DEEPEST);
  }

  /** Closer by a factor, so that what is at a pixel stays there. */
  zoomAt(left, top, factor) {
    const [x, y] = this.back(left, top);
    const scale = this.held(this.view.scale * factor);
    this.view = { scale, x: x - (left - this.width / 2) / scale, y: y + (top - this.height / 2) / scale };
  }

  shift(right, down) {
    this.view = { ...this.view, x: this.view.x - right / this.view.scale, y: this.view.y + down / this.view.scale };
  }

  /** A view that holds what a cluster's middle four fifths take up. */
  around(cluster) {
    const own = this.images.filter((image) => image.cluster === cluster);
    const reach = (name, centre) => {
      const away = own.map((image) => Math.abs(image[name] - centre)).sort((a, b) => a - b);
      return Math.max(away[Math.floor((away.length - 1) * 0.8)] ?? 0, 1e-6);
    };
    const xs = own.map(({ x }) => x).sort((a, b) => a - b);
    const ys = own.map(({ y }) => y).sort((a, b) => a - b);
    const [x, y] = [xs[xs.length >> 1] ?? 0, ys[ys.length >> 1] ?? 0];
    const scale = Math.min(this.width / reach("x", x), this.height / reach("y", y)) * 0.36;
    return { x, y, scale: Math.min(Math.max(scale, this.whole * 1.6), this.whole * 14) };
  }

  /** The image nearest to a pixel, within `reach` pixels. */
  nearest(left, top, reach = 14) {
    const [x, y] = this.back(left, top);
    const { xs, ys } = this;
    let [best, least] = [-1, (reach / this.view.scale) ** 2];
    for (let place = 0; place < xs.length; place++) {
      const apart = (xs[place] - x) ** 2 + (ys[place] - y) ** 2;
      if (apart < least) [best, least] = [place, apart];
    }
    return this.images[best] ?? null;
  }

  /** Images to show as thumbnails, by order of preference, without overlaps: [{ image, left, top }]. */
  pins(order, side, most) {
    const { xs, ys, width, height, view } = this;
    const cells = new Map(); // a pin covers at most its own cell and those about it
    const columns = Math.ceil(width / side) + 4;
    const shown = [];
    for (const place of order) {
      const left = (xs[place] - view.x) * view.scale + width / 2;
      const top = (view.y - ys[place]) * view.scale + height / 2;
      if (left < -side || top < -side || left > width + side || top > height + side) continue;
      const cell = Math.floor(left / side) + 2 + (Math.floor(top / side) + 2) * columns;
      let free = !cells.has(cell);
      for (let row = -columns; row <= columns && free; row += columns) for (let column = -1; column <= 1 && free; column++) {
        const other = cells.get(cell + row + column);
        if (other && Math.abs(other.left - left) < side && Math.abs(other.top - top) < side) free = false;
      }
      if (!free) continue;
      const pin = { image: this.images[place], left, top };
      cells.set(cell, pin);
      shown.push(pin);
      if (shown.length >= most) break;
    }
    return shown;
  }
}
