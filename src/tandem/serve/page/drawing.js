// Draws the map: points, thumbnails where there is room, and cluster names. Knows a chart and a canvas; no pointers.
import { imageUrl, thumbnailPath } from "./api.js";
import { COLORS } from "./chart.js";
import { later, make } from "./dom.js";
import { packed, paint } from "./points.js";

const MAX_PINS = 90;
const MAX_CACHED = 1500; // photos
const REST_MS = 110; // thumbnails are fetched once the view rests
const STAMP = 116; // pixels per side of a prepared thumbnail, with its border

export const color = (cluster) => COLORS[cluster % COLORS.length];

export class Drawing {
  /** `collection` may be null. `choose(place)`: what a click on a cluster's name does. */
  constructor(canvas, chart, map, collection, choose) {
    Object.assign(this, { canvas, chart, collection, chosen: null, pins: [], side: 44 });
    this.context = canvas.getContext("2d");
    this.clusters = map.clusters;
    this.groups = Uint16Array.from(map.images, ({ cluster }) => cluster);
    this.colors = Uint32Array.from(map.clusters, (_, place) => packed(color(place)));
    this.order = preferred(map);
    this.stamps = new Map(); // id -> a canvas, or null while its thumbnail loads
    this.labels = map.clusters.map((cluster, place) => {
      const label = make("button", { type: "button", tabindex: -1, onclick: () => choose(place) }, cluster.name ?? "");
      label.style.setProperty("--cluster", color(place));
      return label;
    });
    this.names = make("div", { class: "names", "aria-hidden": "true" }, this.labels);
    this.resting = later(() => this.draw(), REST_MS);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.theme.onchange = () => {
      this.stamps.clear(); // their borders have the background's colour
      this.soon();
    };
  }

  resize(width, height) {
    this.ratio = Math.min(devicePixelRatio || 1, 2); // a higher ratio costs time in every frame and is not visible
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.raster = new ImageData(Math.max(this.canvas.width, 1), Math.max(this.canvas.height, 1));
    this.pixels = new Uint32Array(this.raster.data.buffer);
    this.chart.resize(width, height);
    this.draw();
  }

  /** The view changed, and may go on changing. */
  moved() {
    this.resting();
    this.soon();
  }

  soon() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.raster || !this.canvas.isConnected) return;
    const { chart, context, raster, ratio } = this;
    const zoom = Math.log2(Math.max(chart.zoom(), 1));
    const radius = Math.min(1.6 + zoom * 0.7 + (chart.images.length < 3000 ? 1 : 0), 5);
    const opacities = Float32Array.from(this.clusters, (_, place) => (this.isFaint(place) ? 0.18 : 0.85));
    paint(this.pixels, raster.width, raster.height, ratio, chart, this.groups, this.colors, opacities, radius);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.putImageData(raster, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.side = Math.round(Math.min(44 + 13 * zoom, 104) * (chart.width < 520 ? 0.85 : 1));
    const most = zoom < 0.38 ? Math.min(MAX_PINS, this.clusters.length * 2) : MAX_PINS;
    this.pins = chart.pins(this.order, this.side + 4, most);
    const size = this.side + 4;
    for (let place = this.pins.length - 1; place >= 0; place--) {
      const { image, left, top } = this.pins[place];
      const stamp = this.stampOf(image);
      if (!stamp) continue;
      context.globalAlpha = this.isFaint(image.cluster) ? 0.35 : 1;
      context.drawImage(stamp, left - size / 2, top - size / 2, size, size);
    }
    context.globalAlpha = 1;
    this.setNames();
  }

  isFaint(cluster) {
    return this.chosen !== null && this.chosen !== cluster;
  }

  /** The image at a pixel: a thumbnail, or a point. */
  under(left, top) {
    const pin = this.pins.find((each) => Math.abs(each.left - left) < this.side / 2 && Math.abs(each.top - top) < this.side / 2);
    return pin?.image ?? this.chart.nearest(left, top);
  }

  /** A thumbnail with round corners and a border, prepared once: clipping ninety of them per frame is slow. */
  stampOf({ id, cluster }) {
    const known = this.stamps.get(id);
    if (known !== undefined || this.resting.pending()) return known;
    this.stamps.set(id, null);
    if (this.stamps.size > MAX_CACHED) this.stamps.delete(this.stamps.keys().next().value);
    const image = new Image();
    image.onload = () => {
      this.stamps.set(id, this.stamp(image, cluster));
      this.soon();
    };
    imageUrl(thumbnailPath(id, this.collection)).then((address) => { image.src = address; }, () => {});
    return null;
  }

  stamp(image, cluster) {
    const canvas = make("canvas", { width: STAMP, height: STAMP });
    const context = canvas.getContext("2d");
    const round = (inset, radius) => {
      context.beginPath();
      context.roundRect(inset, inset, STAMP - 2 * inset, STAMP - 2 * inset, radius);
    };
    context.fillStyle = getComputedStyle(this.canvas).getPropertyValue("--paper").trim() || "#fff";
    round(0, 11);
    context.fill();
    context.save();
    round(4, 9);
    context.clip();
    context.imageSmoothingQuality = "high";
    const square = Math.min(image.naturalWidth, image.naturalHeight);
    context.drawImage(image, (image.naturalWidth - square) / 2, (image.naturalHeight - square) / 2, square, square, 4, 4, STAMP - 8, STAMP - 8);
    context.restore();
    context.strokeStyle = color(cluster);
    context.lineWidth = 2.5;
    round(3, 9);
    context.stroke();
    return canvas;
  }

  /** Show the names that do not overlap, those of the largest clusters first. */
  setNames() {
    const { chart } = this;
    this.widths ??= this.labels.map((label) => label.offsetWidth / 2 + 3); // measured once: measuring forces a layout
    const taken = [[chart.width - 64, chart.height - 166, chart.width, chart.height]]; // the buttons' corner
    this.labels.forEach((label, place) => {
      const cluster = this.clusters[place];
      const [left, middle] = chart.at(cluster.x, cluster.y);
      const top = middle + this.side / 2 + 4;
      const wide = this.widths[place];
      const box = [left - wide, top - 2, left + wide, top + 26];
      const free = cluster.size > 0 && cluster.name && box[0] > 2 && box[2] < chart.width - 2 && top > 0 && top < chart.height - 26 && !taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
      label.style.visibility = free ? "visible" : "hidden";
      if (!free) return;
      taken.push(box);
      label.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px) translateX(-50%)`;
    });
  }
}

/** Indexes of images: representatives of clusters first, then the rest in an order that is even over the map and stable while it moves. */
function preferred({ images, clusters }) {
  const places = new Map(images.map(({ id }, place) => [id, place]));
  const first = clusters.flatMap(({ representatives }, cluster) => representatives.map((id, rank) => [rank, cluster, places.get(id)]));
  first.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  const chosen = new Set(first.map(([, , place]) => place).filter((place) => place !== undefined));
  const rest = images.map((_, place) => place).filter((place) => !chosen.has(place));
  const spread = rest.map((place, at) => [(at * 0.618034) % 1, place]).sort((one, other) => one[0] - other[0]);
  return Int32Array.from([...chosen, ...spread.map(([, place]) => place)]);
}
