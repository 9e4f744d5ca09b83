// The map of the collection: joins the chart, its drawing, panning and zooming, and the list of clusters.
import { show, thumbnailPath } from "./api.js";
import { go, linkWith } from "./router.js";
import { Chart } from "./chart.js";
import { Drawing } from "./drawing.js";
import { announce, icon, make } from "./dom.js";
import { Groups } from "./groups.js";
import { PanZoom } from "./pan_zoom.js";
import { count, fileName, groupName } from "./format.js";

export class CollectionMap {
  constructor(session) {
    this.session = session;
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": "Map" });
    this.tip = make("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.said = make("div", { class: "map-said", role: "status" }, make("p", {}, "Loading the map…"));
    const tool = (shape, label, to) => make("button", { type: "button", class: "round", "aria-label": label, title: label, onclick: () => this.panZoom.glide(to()) }, icon(shape));
    this.tools = make(
      "div",
      { class: "tools", hidden: true },
      tool("plus", "Zoom in", () => this.panZoom.closer(1.8)), tool("minus", "Zoom out", () => this.panZoom.closer(1 / 1.8)), tool("fit", "Show everything", () => this.chart.everything()),
    );
    this.window = make("div", { class: "window" }, this.canvas, this.tip, this.tools, this.said);
    this.heading = make("p", { class: "map-count" });
    this.side = make("aside", { "aria-label": "Groups" }, make("h1", { id: "map-title" }, "Map"), this.heading);
    this.element = make("section", { class: "map", "aria-labelledby": "map-title" }, this.window, this.side);
    new ResizeObserver(() => this.resize()).observe(this.window);
  }

  routeChanged() {}

  close() {}

  async open() {
    document.title = "Map · Tandem";
    if (this.chart) return this.drawing.draw();
    this.say("Loading the map…");
    if (this.session.count === 0) return this.say("The collection is empty.");
    try {
      const map = await this.session.map(() => this.say("Computing the map. This is done once and takes a moment…", { busy: true }));
      if (this.chart) return;
      if (!map.images.length) return this.say("The collection is empty.");
      this.said.replaceChildren();
      this.fill(map);
    } catch (error) {
      this.say(error.message, { again: true });
    }
  }

  say(text, { busy = false, again = false } = {}) {
    if (this.said.textContent === text) return; // a screen reader would read a repeated message again
    const button = again ? make("button", { type: "button", class: "button", onclick: () => this.open() }, "Try again") : null;
    this.said.replaceChildren(make("p", { class: busy ? "working" : null }, text), ...(button ? [button] : []));
  }

  fill(map) {
    const { collection } = this.session;
    this.clusters = map.clusters;
    this.chart = new Chart(map.images);
    this.groups = new Groups(map.clusters, collection, (place) => this.chose(place));
    this.drawing = new Drawing(this.canvas, this.chart, map, collection, (place) => this.groups.choose(place));
    this.panZoom = new PanZoom(this.canvas, this.chart, {
      moved: () => this.drawing.moved(),
      pointed: (at, middle) => this.point(at, middle),
      pressed: (at, middle) => this.press(at, middle),
    });
    this.canvas.after(this.drawing.names);
    const all = count(map.count ?? map.images.length, "photo");
    const some = map.count > map.images.length ? ` ${map.images.length.toLocaleString("en")} of them are shown.` : "";
    this.heading.textContent = `${all} in ${count(map.clusters.length, "group")}. Photos that the model finds similar are near each other.${some}`;
    this.canvas.setAttribute("aria-label", `Map of ${all}. Arrow keys move it, plus and minus zoom, 0 shows everything, Enter opens the photo in the middle. The list of groups also leads to the photos.`);
    this.side.append(this.groups.list);
    this.tools.hidden = false;
    this.resize();
    this.chart.view = this.chart.everything();
    this.drawing.draw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.window;
    if (width && height) this.drawing?.resize(width, height);
  }

  chose(place) {
    this.drawing.chosen = place;
    if (place === null) return this.panZoom.glide(this.chart.everything());
    const cluster = this.clusters[place];
    announce(`${groupName(cluster)}, ${count(cluster.size, "photo")}`);
    this.panZoom.glide(this.chart.around(place));
  }

  /** The image at a position; `middle`: the one nearest to the middle of the window, for keyboards. */
  found(at, middle) {
    return middle ? this.chart.nearest(...at, Infinity) : this.drawing.under(...at);
  }

  press(at, middle) {
    const found = this.found(at, middle);
    if (found) go(linkWith({ image: found.id }));
  }

  point(at, middle) {
    const found = at && this.found(at, middle);
    this.canvas.classList.toggle("pointing", Boolean(found) && !middle);
    this.tip.hidden = !found;
    if (!found) {
      this.tipped = null;
      return;
    }
    if (this.tipped !== found.id) {
      this.tipped = found.id;
      this.tip.replaceChildren(show(make("img", { alt: "" }), thumbnailPath(found.id, this.session.collection)), make("span", {}, fileName(found.path)));
    }
    const [left, top] = this.chart.at(found.x, found.y);
    const right = left > this.chart.width - 200;
    const low = top < 220;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px) translate(${right ? "calc(-100% - 14px)" : "14px"}, ${low ? "14px" : "calc(-100% - 14px)"})`;
  }
}
