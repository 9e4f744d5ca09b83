// A justified grid: rows of equal width, images with their own aspect ratios. Arrow keys move within it; Tab skips it.
import { show } from "./api.js";
import { linkWith } from "./router.js";
import { icon, make } from "./dom.js";
import { clock, fileName, percent } from "./format.js";

const GAP = 8;
const rowHeight = (width) => (width < 520 ? 128 : width < 900 ? 170 : 208);

/** Sizes [[width, height], ...] of images with these aspect ratios, in rows that fill `width`. */
export function justify(aspects, width, height = rowHeight(width), gap = GAP) {
  const sizes = [];
  let row = [];
  const close = (full) => {
    const wide = row.reduce((sum, aspect) => sum + aspect, 0);
    const fitting = (width - gap * (row.length - 1)) / wide;
    const tall = full ? fitting : Math.min(fitting, height);
    let rest = width - gap * (row.length - 1);
    row.forEach((aspect, place) => {
      const last = full && place === row.length - 1;
      const own = last ? rest : Math.min(Math.round(aspect * tall), rest);
      rest -= own;
      sizes.push([own, Math.round(tall)]);
    });
    row = [];
  };
  for (const aspect of aspects) {
    row.push(aspect);
    if (row.reduce((sum, each) => sum + each, 0) * height + gap * (row.length - 1) >= width) close(true);
  }
  if (row.length) close(false);
  return sizes;
}

const nameOf = (hit) => hit.metadata.caption?.split("\n")[0] || fileName(hit.path);

export class Grid {
  /** `more(hit)`: what "more like this" does. `relevance`: whether to show it. */
  constructor(label, more, relevance) {
    Object.assign(this, { more, relevance });
    this.hits = [];
    this.sizes = [];
    this.list = make("ul", { class: "grid", "aria-label": label, onkeydown: (event) => this.walk(event) });
    this.list.addEventListener("focusin", (event) => this.enter(event.target.closest("li")));
    this.watcher = new ResizeObserver(() => this.lay());
    this.watcher.observe(this.list);
  }

  add(hits) {
    const begin = this.hits.length;
    this.hits.push(...hits);
    this.list.append(...hits.map((hit, place) => this.tile(hit, begin === 0 && place === 0)));
    this.lay(true);
  }

  tile(hit, first) {
    const name = nameOf(hit);
    return make(
      "li",
      {},
      make(
        "a",
        { href: linkWith({ image: hit.id }), tabindex: first ? 0 : -1, "aria-label": this.described(hit), title: fileName(hit.path) },
        show(make("img", { alt: "", draggable: "false" }), hit.thumbnail),
        hit.relevance === null ? null : make("span", { class: "relevance", "aria-hidden": "true", hidden: !this.relevance }, percent(hit.relevance)),
        hit.metadata.time === undefined ? null : make("span", { class: "film-time", "aria-hidden": "true" }, clock(hit.metadata.time)),
        hit.missing ? make("span", { class: "file-missing", "aria-hidden": "true" }, "file missing") : null,
      ),
      make(
        "button",
        { type: "button", class: "alike", tabindex: first ? 0 : -1, "aria-label": `More like ${name}`, title: "More like this", onclick: () => this.more(hit) },
        icon("alike"),
      ),
    );
  }

  described(hit) {
    const likely = hit.relevance === null || !this.relevance ? "" : `, ${percent(hit.relevance)} likely to match`;
    return `${nameOf(hit)}${likely}${hit.missing ? ", file missing" : ""}`;
  }

  /** Show or hide the relevance of every image that has one. */
  showRelevance(shown) {
    this.relevance = shown;
    for (const badge of this.list.querySelectorAll(".relevance")) badge.hidden = !shown;
    this.hits.forEach((hit, place) => this.list.children[place].querySelector("a").setAttribute("aria-label", this.described(hit)));
  }

  /** Focus an image. Whether it is in this grid. */
  focus(id) {
    const at = this.hits.findIndex((hit) => hit.id === id);
    this.list.children[at]?.querySelector("a").focus();
    return at >= 0;
  }

  lay(force = false) {
    const width = Math.floor(this.list.clientWidth);
    if (!width || (width === this.width && !force)) return;
    this.width = width;
    const aspects = this.hits.map(({ metadata: { width: w, height: h } }) => Math.min(Math.max(w / h || 1, 0.45), 3.2));
    const { children } = this.list;
    justify(aspects, width).forEach(([wide, tall], place) => {
      const before = this.sizes[place];
      if (before?.[0] === wide && before[1] === tall) return; // all but the last row, when more come
      this.sizes[place] = [wide, tall];
      const { style } = children[place];
      style.width = `${wide}px`;
      style.height = `${tall}px`;
    });
  }

  enter(tile) {
    if (!tile) return;
    for (const each of this.list.querySelectorAll("[tabindex='0']")) each.tabIndex = -1;
    for (const each of tile.children) each.tabIndex = 0;
  }

  walk(event) {
    const tile = event.target.closest("li");
    const tiles = [...this.list.children];
    const at = tiles.indexOf(tile);
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    let to = null;
    if (across) to = tiles[at + across];
    else if (event.key === "Home") [to] = tiles;
    else if (event.key === "End") to = tiles.at(-1);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") to = beside(tiles, tile, event.key === "ArrowDown" ? 1 : -1);
    else return;
    event.preventDefault();
    to?.querySelector("a").focus();
  }

  close() {
    this.watcher.disconnect();
  }
}

/** The tile of the next row that is nearest to the middle of this one. */
function beside(tiles, tile, direction) {
  const middle = tile.offsetLeft + tile.offsetWidth / 2;
  const further = tiles.filter((each) => (each.offsetTop - tile.offsetTop) * direction > 0);
  if (!further.length) return null;
  const tops = further.map((each) => each.offsetTop);
  const row = direction > 0 ? Math.min(...tops) : Math.max(...tops);
  const distance = (each) => Math.abs(each.offsetLeft + each.offsetWidth / 2 - middle);
  return further.filter((each) => each.offsetTop === row).reduce((best, each) => (distance(each) < distance(best) ? each : best));
}
