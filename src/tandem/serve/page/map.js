// The map of the collection: pan, zoom, named clusters, pictures where there is room, click through.
import { pictureAddress, show, thumbnailPath } from "./api.js";
import { go, link, linkWith } from "./address.js";
import { COLORS, Chart } from "./chart.js";
import { announce, calm, icon, make } from "./elements.js";
import { count, fileName } from "./wording.js";

const color = (cluster) => COLORS[cluster % COLORS.length];
const GLIDE_MS = 420;
const MOST_PINS = 90;

export class CollectionMap {
  constructor(session) {
    this.session = session;
    this.images = new Map(); // id -> { image, ready }
    this.pointers = new Map();
    this.canvas = make("canvas", {
      tabindex: 0, role: "img",
      onpointerdown: (event) => this.down(event), onpointermove: (event) => this.drag(event), onpointerup: (event) => this.up(event),
      onpointercancel: (event) => this.up(event), onpointerleave: () => this.hover(null), onkeydown: (event) => this.key(event),
    });
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.names = make("div", { class: "names", "aria-hidden": "true" });
    this.tip = make("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.said = make("p", { class: "map-said", role: "status" }, "Loading the map…");
    const tool = (shape, label, action) => make("button", { type: "button", class: "round", "aria-label": label, title: label, onclick: action }, icon(shape));
    const tools = make("div", { class: "tools" }, tool("plus", "Closer", () => this.glide(this.closer(1.8))), tool("minus", "Farther", () => this.glide(this.closer(1 / 1.8))), tool("fit", "Everything", () => this.glide(this.chart?.everything())));
    this.list = make("ol", { class: "clusters" });
    this.window = make("div", { class: "window" }, this.canvas, this.names, this.tip, tools, this.said);
    this.heading = make("p", { class: "map-count" });
    this.element = make("section", { class: "map", "aria-labelledby": "map-title" }, this.window, make("aside", { "aria-label": "Clusters" }, make("h1", { id: "map-title" }, "Map"), this.heading, this.list));
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.window);
  }

  moved() {}

  async open() {
    document.title = "Map · Tandem";
    if (this.chart) return this.draw();
    try {
      const map = await this.session.map(() => { this.said.textContent = "Laying out the map. This is done once, and takes a moment…"; });
      this.said.textContent = map.pictures.length ? "" : "The collection is empty.";
      if (map.pictures.length) this.fill(map);
    } catch (error) {
      this.said.textContent = error.message;
    }
  }

  close() {}

  fill(map) {
    this.clusters = map.clusters;
    this.chart = new Chart(map.pictures);
    const byId = new Map(map.pictures.map((picture) => [picture.id, picture]));
    const first = map.clusters.flatMap((cluster, place) => cluster.representatives.map((id, rank) => ({ rank, place, picture: byId.get(id) }))).filter(({ picture }) => picture);
    first.sort((one, other) => one.rank - other.rank || one.place - other.place);
    const chosen = new Set(first.map(({ picture }) => picture));
    // Every so many of the rest, so that what is shown stays what it was while one moves about.
    const rest = map.pictures.filter((picture) => !chosen.has(picture)).map((picture, place) => [(place * 0.618034) % 1, picture]).sort((a, b) => a[0] - b[0]);
    this.order = [...chosen, ...rest.map(([, picture]) => picture)];
    this.members = map.clusters.map(() => []);
    for (const picture of map.pictures) this.members[picture.cluster].push(picture);
    this.heading.textContent = `${count(map.count ?? map.pictures.length, "picture")} in ${count(map.clusters.length, "group")}. Near each other is what looks alike to the model.`;
    this.canvas.setAttribute("aria-label", `Map of ${count(map.pictures.length, "picture")}. Arrow keys move it, plus and minus zoom. The list of groups leads to the pictures.`);
    this.labels = map.clusters.map((cluster, place) => {
      const label = make("button", { type: "button", tabindex: -1, onclick: () => this.choose(place) }, cluster.name);
      label.style.setProperty("--own", color(place));
      return label;
    });
    this.names.append(...this.labels);
    this.list.append(...map.clusters.map((cluster, place) => this.entry(cluster, place)));
    this.resize();
    this.chart.view = this.chart.everything();
    this.draw();
  }

  entry(cluster, place) {
    const dot = make("span", { class: "dot" });
    dot.style.background = color(place);
    const more = make("div", { class: "more", hidden: true, id: `cluster-${place}` });
    const head = make("button", { type: "button", class: "cluster", "aria-expanded": "false", "aria-controls": more.id, onclick: () => this.choose(place) }, dot, make("span", { class: "cluster-name" }, cluster.name), make("span", { class: "cluster-size" }, cluster.size.toLocaleString("en")));
    return make("li", {}, head, more);
  }

  /** Go to a cluster, and open its entry in the list; the second time close it again. */
  choose(place) {
    const entry = this.list.children[place];
    const head = entry.firstElementChild;
    const more = entry.lastElementChild;
    const open = head.getAttribute("aria-expanded") === "true";
    for (const other of this.list.children) {
      other.firstElementChild.setAttribute("aria-expanded", "false");
      other.lastElementChild.hidden = true;
    }
    this.chosen = open ? null : place;
    if (open) return this.glide(this.chart.everything());
    const cluster = this.clusters[place];
    head.setAttribute("aria-expanded", "true");
    more.hidden = false;
    if (!more.childElementCount) {
      more.append(
        make("p", {}, cluster.words.join(" · ")),
        make("div", { class: "strip" }, cluster.representatives.map((id, rank) => make("a", { href: linkWith({ picture: id }), "aria-label": `${cluster.name}, picture ${rank + 1}` }, show(make("img", { alt: "" }), thumbnailPath(id, this.session.collection))))),
        make("a", { class: "button", href: link("search", { q: cluster.name }) }, icon("search"), `Search for “${cluster.name}”`),
      );
    }
    entry.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
    announce(`${cluster.name}, ${count(cluster.size, "picture")}`);
    this.glide(this.chart.around(place));
  }

  // --- moving about ---------------------------------------------------------------------------------------------

  closer(factor) {
    return this.chart && { ...this.chart.view, scale: this.chart.held(this.chart.view.scale * factor) };
  }

  glide(to) {
    if (!to) return;
    cancelAnimationFrame(this.gliding);
    const from = { ...this.chart.view };
    const began = performance.now();
    const step = (now) => {
      const part = calm() ? 1 : Math.min(1, (now - began) / GLIDE_MS);
      const eased = 1 - (1 - part) ** 3;
      const scale = from.scale * (to.scale / from.scale) ** eased;
      // Along a straight line on the screen while the scale changes, the target does not swing out.
      const way = Math.abs(to.scale - from.scale) < 1e-9 ? eased : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
      this.chart.view = { scale, x: from.x + (to.x - from.x) * way, y: from.y + (to.y - from.y) * way };
      this.draw();
      if (part < 1) this.gliding = requestAnimationFrame(step);
    };
    this.gliding = requestAnimationFrame(step);
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (!this.chart) return;
    cancelAnimationFrame(this.gliding);
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    this.travelled = this.pointers.size > 1 ? Infinity : 0;
  }

  drag(event) {
    if (!this.chart) return;
    const to = this.place(event);
    const from = this.pointers.get(event.pointerId);
    if (!from) return this.hover(to);
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    if (others.length) {
      const [other] = others;
      const apart = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]);
      this.chart.zoomAt((to[0] + other[0]) / 2, (to[1] + other[1]) / 2, apart(to) / Math.max(apart(from), 1));
      this.chart.shift((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
    } else {
      this.chart.shift(to[0] - from[0], to[1] - from[1]);
    }
    this.travelled += Math.hypot(to[0] - from[0], to[1] - from[1]);
    this.pointers.set(event.pointerId, to);
    this.hover(null);
    this.soon();
  }

  up(event) {
    const was = this.pointers.delete(event.pointerId);
    if (!was || this.pointers.size || this.travelled > 6 || event.type === "pointercancel") return;
    const found = this.under(...this.place(event));
    if (found) go(linkWith({ picture: found.id }));
  }

  wheel(event) {
    if (!this.chart) return;
    event.preventDefault();
    cancelAnimationFrame(this.gliding);
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.chart.zoomAt(...this.place(event), Math.exp(-event.deltaY * lines * 0.0016));
    this.soon();
  }

  key(event) {
    if (!this.chart) return;
    const step = { ArrowLeft: [90, 0], ArrowRight: [-90, 0], ArrowUp: [0, 90], ArrowDown: [0, -90] }[event.key];
    if (step) this.chart.shift(...step);
    else if (event.key === "+" || event.key === "=") this.chart.view = this.closer(1.4);
    else if (event.key === "-") this.chart.view = this.closer(1 / 1.4);
    else if (event.key === "0") this.chart.view = this.chart.everything();
    else if (event.key === "Enter") {
      const found = this.chart.nearest(this.chart.width / 2, this.chart.height / 2, Infinity);
      if (found) go(linkWith({ picture: found.id }));
    } else return;
    event.preventDefault();
    this.soon();
  }

  under(left, top) {
    const pin = this.pins?.find((each) => Math.abs(each.left - left) < this.side / 2 && Math.abs(each.top - top) < this.side / 2);
    return pin?.picture ?? this.chart.nearest(left, top);
  }

  hover(at) {
    const found = at && this.under(...at);
    this.canvas.classList.toggle("pointing", Boolean(found));
    if (!found) {
      this.tip.hidden = true;
      this.tipped = null;
      return;
    }
    if (this.tipped !== found.id) {
      this.tipped = found.id;
      this.tip.replaceChildren(show(make("img", { alt: "" }), thumbnailPath(found.id, this.session.collection)), make("span", {}, fileName(found.path)));
    }
    this.tip.hidden = false;
    const [left, top] = this.chart.at(found.x, found.y);
    const right = left > this.chart.width - 200;
    const low = top < 220;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px) translate(${right ? "calc(-100% - 14px)" : "14px"}, ${low ? "14px" : "calc(-100% - 14px)"})`;
  }

  // --- drawing --------------------------------------------------------------------------------------------------

  resize() {
    const { clientWidth: width, clientHeight: height } = this.window;
    if (!width || !height) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.chart?.resize(width, height);
    this.draw();
  }

  soon() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = null;
    if (!this.chart || !this.element.isConnected) return;
    const { chart } = this;
    const context = this.canvas.getContext("2d");
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, chart.width, chart.height);
    const zoom = chart.zoom();
    const radius = Math.min(1.6 + Math.log2(Math.max(zoom, 1)) * 0.7 + (chart.pictures.length < 3000 ? 1 : 0), 5);
    for (let cluster = 0; cluster < this.clusters.length; cluster++) {
      context.fillStyle = color(cluster);
      context.globalAlpha = this.chosen === null || this.chosen === undefined || this.chosen === cluster ? 0.8 : 0.18;
      context.beginPath();
      for (const picture of this.members[cluster]) {
        const [left, top] = chart.at(picture.x, picture.y);
        if (left < -9 || top < -9 || left > chart.width + 9 || top > chart.height + 9) continue;
        context.moveTo(left + radius, top);
        context.arc(left, top, radius, 0, 2 * Math.PI);
      }
      context.fill();
    }
    context.globalAlpha = 1;
    this.side = Math.round(Math.min(44 + 13 * Math.log2(Math.max(zoom, 1)), 104) * (chart.width < 520 ? 0.85 : 1));
    const most = zoom < 1.3 ? Math.min(MOST_PINS, this.clusters.length * 2) : MOST_PINS;
    this.pins = chart.pins(this.order, this.side + 4, most);
    const edge = getComputedStyle(this.element).getPropertyValue("--paper").trim() || "#fff";
    for (let place = this.pins.length - 1; place >= 0; place--) this.pin(context, this.pins[place], edge);
    this.setNames();
  }

  pin(context, { picture, left, top }, edge) {
    const image = this.imageOf(picture.id);
    if (!image) return;
    const half = this.side / 2;
    const faint = this.chosen !== null && this.chosen !== undefined && this.chosen !== picture.cluster;
    context.globalAlpha = faint ? 0.35 : 1;
    context.fillStyle = edge;
    context.beginPath();
    context.roundRect(left - half - 2, top - half - 2, this.side + 4, this.side + 4, 8);
    context.fill();
    context.save();
    context.beginPath();
    context.roundRect(left - half, top - half, this.side, this.side, 6);
    context.clip();
    const { naturalWidth: width, naturalHeight: height } = image;
    const square = Math.min(width, height);
    context.drawImage(image, (width - square) / 2, (height - square) / 2, square, square, left - half, top - half, this.side, this.side);
    context.restore();
    context.strokeStyle = color(picture.cluster);
    context.lineWidth = 1.5;
    context.beginPath();
    context.roundRect(left - half - 0.5, top - half - 0.5, this.side + 1, this.side + 1, 6.5);
    context.stroke();
    context.globalAlpha = 1;
  }

  imageOf(id) {
    const known = this.images.get(id);
    if (known) return known.ready ? known.image : null;
    const kept = { image: new Image(), ready: false };
    this.images.set(id, kept);
    if (this.images.size > 1500) this.images.delete(this.images.keys().next().value);
    kept.image.onload = () => {
      kept.ready = true;
      this.soon();
    };
    pictureAddress(thumbnailPath(id, this.session.collection)).then((address) => { kept.image.src = address; }, () => {});
    return null;
  }

  /** Names where they are not over one another, those of the largest clusters first. */
  setNames() {
    const { chart } = this;
    const taken = [[chart.width - 64, chart.height - 166, chart.width, chart.height]]; // the buttons' corner
    this.labels.forEach((label, place) => {
      const cluster = this.clusters[place];
      const [left, middle] = chart.at(cluster.x, cluster.y);
      const top = middle + this.side / 2 + 4;
      const wide = (label.offsetWidth || 60) / 2 + 3;
      const box = [left - wide, top - 2, left + wide, top + 26];
      const free = cluster.size > 0 && box[0] > 2 && box[2] < chart.width - 2 && top > 0 && top < chart.height - 26 && !taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
      label.style.visibility = free ? "visible" : "hidden";
      if (!free) return;
      taken.push(box);
      label.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px) translateX(-50%)`;
    });
  }
}
