// Where words are in the image of the dialog: heat over it, boxes to search by, or "not there".
import { ask } from "./api.js";
import { announce, icon, make } from "./dom.js";
import { percent } from "./format.js";
import { keepLocal } from "./local_images.js";
import { go, linkHere } from "./router.js";

const MOST_TEXTS = 16;
const HEAT = [232, 89, 12]; // as in drawings
const OPACITY = 0.72;
const NAME = 24;

export class Located {
  /**
   * `image` and `film` are the elements that heat may lie over, one of them at a time. `asked()` gives what is asked
   * about: { id, collection }, or null; of a film that is shown, it is the frame where it stands.
   */
  constructor(image, film, asked) {
    this.image = image;
    this.film = film;
    this.asked = asked;
    this.found = null;
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.boxes = make("div", {});
    this.overlay = make("div", { class: "located", hidden: true }, this.canvas, this.boxes);
    this.input = make("input", { id: "locate-words", type: "text", autocomplete: "off", placeholder: "a red cup, a plate", maxlength: 400 });
    this.said = make("p", { class: "bars-said", role: "status" });
    this.list = make("ul", { class: "located-texts" });
    this.element = make(
      "form",
      { class: "locate field", onsubmit: (event) => { event.preventDefault(); this.find(); } },
      (this.title = make("h3", {})),
      make("label", { for: "locate-words" }, "Words, with commas between several"),
      make("div", { class: "correction-row" }, this.input, make("button", { class: "button", type: "submit" }, "Find")),
      this.list,
      this.said,
    );
    const resized = new ResizeObserver(() => this.place());
    for (const each of [image, film]) resized.observe(each);
    image.addEventListener("load", () => this.place());
    for (const moved of ["play", "seeking"]) film.addEventListener(moved, () => this.found && this.clear());
  }

  get shown() {
    return this.film.hidden ? this.image : this.film;
  }

  /** What is looked at: the image by its id, or the frame that a film shows, as a data URI. */
  looked() {
    const what = this.asked();
    if (!what || this.film.hidden) return what;
    this.film.pause();
    const { videoWidth: width, videoHeight: height } = this.film;
    return { image: this.part(0, 0, width, height).toDataURL("image/jpeg", 0.93), collection: what.collection };
  }

  /** A canvas with a part of what is shown, in its own pixels. */
  part(left, top, width, height) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width));
    canvas.height = Math.max(1, Math.round(height));
    canvas.getContext("2d").drawImage(this.shown, left, top, width, height, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  /** What is looked at: "photo", or "frame" of a film. */
  call(what) {
    this.title.textContent = `Find something in this ${what}`;
  }

  /** What was found goes. */
  clear() {
    this.request?.abort();
    this.found = null;
    this.overlay.hidden = true;
    this.list.replaceChildren();
    this.say("");
  }

  /** Another image: the words for the last one go, too. */
  forget() {
    this.clear();
    this.input.value = "";
  }

  say(text, wrong = false) {
    this.said.textContent = text;
    this.said.classList.toggle("wrong", wrong);
  }

  async find() {
    const texts = [...new Set(this.input.value.split(",").map((text) => text.trim()).filter(Boolean))].slice(0, MOST_TEXTS);
    this.clear();
    if (!this.asked()) return;
    if (!texts.length) return this.say("Type what to look for.");
    const request = (this.request = new AbortController());
    this.say("Looking…");
    try {
      const answer = await ask("/v1/locate", { ...this.looked(), texts, heat: true }, request.signal);
      if (request.signal.aborted) return;
      this.found = answer;
      this.list.replaceChildren(...answer.locations.map((each, i) => this.row(each, i)));
      const first = answer.locations.findIndex((each) => each.present);
      this.choose(Math.max(first, 0));
      announce(answer.locations.map((each) => `${each.text}: ${verdict(each)}`).join("; "));
    } catch (error) {
      if (error.name !== "AbortError") this.say(error.message, true);
    }
  }

  row(each, i) {
    const button = make("button", { type: "button", "aria-pressed": "false", onclick: () => this.choose(i) }, make("span", {}, each.text), make("span", { class: each.present ? "there" : "absent" }, verdict(each)));
    return make("li", {}, button);
  }

  /** Show one text's heat and boxes. */
  choose(i) {
    const each = this.found.locations[i];
    for (const [j, row] of [...this.list.children].entries()) row.firstChild.setAttribute("aria-pressed", String(i === j));
    this.paint(each.heat);
    this.boxes.replaceChildren(...each.boxes.map((found) => this.box(each.text, found.box)), ...(each.present ? [this.point(each.point)] : []));
    this.overlay.hidden = false;
    this.place();
    this.say(each.present ? "Click a box to search for more like it." : `“${each.text}” is not there: the faint colour is where it would be first of all.`);
  }

  paint({ width, height, values }) {
    const bytes = Uint8Array.from(atob(values), (character) => character.charCodeAt(0));
    this.canvas.width = width;
    this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    bytes.forEach((value, at) => pixels.data.set([...HEAT, Math.round(value * OPACITY)], 4 * at));
    context.putImageData(pixels, 0, 0);
  }

  box(text, [left, top, right, bottom]) {
    const { width, height } = this.found;
    const button = make("button", { type: "button", class: "located-box", "aria-label": `More like this: ${text}`, title: "More like this", onclick: () => this.searchBy(text, [left, top, right, bottom]) }, icon("alike"));
    Object.assign(button.style, { left: share(left, width), top: share(top, height), width: share(right - left, width), height: share(bottom - top, height) });
    return button;
  }

  point([x, y]) {
    const dot = make("span", { class: "located-point", "aria-hidden": "true" });
    Object.assign(dot.style, { left: share(x, this.found.width), top: share(y, this.found.height) });
    return dot;
  }

  /** Lay the overlay over the picture itself, which is smaller than its element. */
  place() {
    if (this.overlay.hidden || !this.found) return;
    const { width, height } = this.found;
    const around = this.overlay.offsetParent?.getBoundingClientRect();
    const inside = this.shown.getBoundingClientRect();
    if (!around) return;
    const scale = Math.min(inside.width / width, inside.height / height);
    Object.assign(this.overlay.style, {
      left: `${inside.left - around.left + (inside.width - width * scale) / 2}px`,
      top: `${inside.top - around.top + (inside.height - height * scale) / 2}px`,
      width: `${width * scale}px`,
      height: `${height * scale}px`,
    });
  }

  /** Search by a part of the image. */
  searchBy(text, [left, top, right, bottom]) {
    const { naturalWidth, naturalHeight, videoWidth = naturalWidth, videoHeight = naturalHeight } = this.shown;
    const [across, down] = [videoWidth / this.found.width, videoHeight / this.found.height];
    const part = this.part(left * across, top * down, (right - left) * across, (bottom - top) * down);
    const local = keepLocal({ uri: part.toDataURL("image/jpeg", 0.93), name: `a part: ${text.slice(0, NAME)}` });
    go(linkHere("search", { local }));
  }
}

const share = (value, whole) => `${(100 * value) / whole}%`;

function verdict({ present, probability }) {
  const said = present ? "there" : "not there";
  return probability === null ? said : `${said}, ${percent(probability)}`;
}
