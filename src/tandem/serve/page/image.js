// One image in a dialog: large, with its metadata and the probabilities of labels.
import { ask, imageUrl, metadataPath, originalPath, playable, thumbnailPath } from "./api.js";
import { go, currentRoute, leaveFor, linkHere, linkWith } from "./router.js";
import { LabelBars, keptLabels } from "./bars.js";
import { Correction } from "./corrections.js";
import { icon, make } from "./dom.js";
import { PolicyJudgements } from "./judging.js";
import { Located } from "./locate.js";
import { SentenceScores } from "./sentence_scores.js";
import { band, clock, fileName, fileSize, moment, percent, pixels, place } from "./format.js";

const ENLARGED = 3;

export class ImageDialog {
  /** `focus(id)` focuses an image of the view behind the dialog, and tells whether it is there. */
  constructor(session, focus) {
    this.session = session;
    this.focusBehind = focus;
    this.id = null;
    this.image = make("img", { class: "shown", alt: "", onerror: () => this.image.removeAttribute("src") });
    this.film = make("video", { class: "shown", controls: true, playsinline: true, preload: "metadata", hidden: true });
    const asked = () => this.id && { id: this.id, collection: this.session.collection };
    this.located = new Located(this.image, this.film, asked);
    this.scores = new SentenceScores(asked);
    this.judgements = new PolicyJudgements(asked);
    this.stage = make("div", { class: "stage" }, this.image, this.film, this.located.overlay);
    this.title = make("h2", { id: "image-title" });
    this.relevance = make("p", { class: "fits" });
    this.known = make("dl", {});
    this.gone = make("p", { class: "gone", hidden: true });
    this.bars = new LabelBars("tandem-image-labels", keptLabels("tandem-image-labels", []), (...asked) => this.sees(...asked));
    this.correction = new Correction("image-correction", asked, () => this.bars.labels());
    this.before = this.button("left", "Previous photo", () => this.step(-1));
    this.after = this.button("right", "Next photo", () => this.step(1));
    this.closing = this.button("close", "Close", () => this.leave());
    this.original = make("a", { class: "button", target: "_blank", rel: "noopener" }, icon("open"), "Open the file");
    const alike = make("button", { type: "button", class: "primary", onclick: () => go(linkHere("search", { like: this.id })) }, icon("alike"), "More like this");
    this.element = make(
      "dialog",
      {
        class: "image-dialog", "aria-labelledby": "image-title",
        onkeydown: (event) => this.key(event),
        onclick: (event) => event.target === this.element && this.leave(),
        oncancel: (event) => { event.preventDefault(); this.leave(); },
        onclose: () => this.id && !this.element.open && this.leave(), // the browser closes it by itself when Escape is pressed again
      },
      make("div", { class: "image-frame" },
        make("div", { class: "view" }, this.stage, this.before, this.after),
        make("div", { class: "aside" },
          make("div", { class: "aside-head" }, this.title, this.closing),
          this.relevance,
          this.body = make("div", { class: "image-body" },
            make("div", { class: "actions" }, alike, this.original),
            this.located.element,
            make("h3", {}, "What the model sees"),
            this.bars.element,
            this.correction.element,
            this.scores.element,
            this.judgements.element,
            this.about = make("h3", {}),
            this.known,
            this.gone,
          ),
        ),
      ),
    );
    document.body.append(this.element);
  }

  button(shape, label, action) {
    return make("button", { type: "button", class: `round ${shape}`, "aria-label": label, onclick: action }, icon(shape));
  }

  /** Follow the route: open, change, or close. */
  routeChanged() {
    const { values } = currentRoute();
    if (values.image) this.open(values.image);
    else if (this.id) this.close();
  }

  leave() {
    leaveFor(linkWith({ image: "" }));
  }

  close() {
    const last = this.id;
    this.id = null;
    this.stopFilm();
    this.bars.close();
    this.element.close();
    // After moving from image to image, the focus returns to the last one.
    if (last !== this.first && this.focusBehind(last)) return;
    if (this.from?.isConnected) this.from.focus();
  }

  step(by) {
    const at = this.session.hits.findIndex((hit) => hit.id === this.id);
    const to = at < 0 ? null : this.session.hits[at + by];
    if (to) go(linkWith({ image: to.id }), { replace: true });
  }

  key(event) {
    if (event.target.matches("input, video")) return;
    if (event.key === "ArrowLeft") this.step(-1);
    if (event.key === "ArrowRight") this.step(1);
  }

  async open(id) {
    if (id === this.id) return;
    this.id = id;
    this.correction.show();
    this.scores.show();
    this.judgements.show();
    this.located.forget();
    const hits = this.session.hits;
    const at = hits.findIndex((hit) => hit.id === id);
    this.before.hidden = at <= 0;
    this.after.hidden = at < 0 || at >= hits.length - 1;
    if (!this.element.open) {
      this.from = document.activeElement;
      this.first = id;
      this.element.showModal();
      this.closing.focus();
    } else if (document.activeElement?.hidden) {
      this.closing.focus(); // the last image has no next one
    }
    this.describe(hits[at] ?? { id, path: "", relevance: null, metadata: {} });
    if (at >= 0) this.showImage(id, hits[at].metadata);
    this.bars.refresh();
    if (at < 0) await this.look(id);
  }

  /** Fetch the metadata of an image that is not among the hits. */
  async look(id) {
    try {
      const { path = "", ...metadata } = await ask(metadataPath(id, this.session.collection));
      if (this.id !== id) return;
      this.describe({ id, path, relevance: null, metadata });
      this.showImage(id, metadata);
    } catch (error) {
      if (this.id !== id) return;
      this.showImage(id, {});
      this.body.hidden = error.status === 404; // there is nothing to show or do
      this.title.textContent = error.status === 404 ? "This photo is not here" : "Photo";
      this.relevance.textContent = error.status === 404 ? "It may have been deleted, or be in another collection." : error.message;
    }
  }

  describe(hit) {
    this.body.hidden = false;
    const { metadata } = hit;
    const name = hit.path ? fileName(hit.path) : "Photo";
    this.title.textContent = name;
    this.image.alt = metadata.caption?.split("\n")[0] || name;
    const { query, threshold, relevance } = this.session;
    const label = band(hit.relevance, threshold ?? null);
    const share = relevance ? `: ${percent(hit.relevance)} likely to match` : " a match";
    const what = query ? `${relevance ? "" : " for"} “${query}”` : "";
    this.relevance.textContent = label ? `${label}${share}${what}` : "";
    this.about.textContent = `About this ${metadata.time === undefined ? "photo" : "moment"}`;
    const lines = {
      Caption: metadata.caption,
      Time: metadata.time === undefined ? null : clock(metadata.time),
      Size: metadata.width && pixels(metadata.width, metadata.height),
      File: [metadata.format, metadata.bytes && fileSize(metadata.bytes)].filter(Boolean).join(", "),
      Taken: metadata.taken && moment(metadata.taken),
      Place: metadata.latitude !== undefined && metadata.longitude !== undefined ? place(metadata.latitude, metadata.longitude) : null,
      Path: (metadata.paths ?? [hit.path]).join("\n"),
      Cosine: hit.score === undefined ? null : hit.score.toFixed(3),
      Indexed: metadata.indexed && moment(metadata.indexed),
      Missing: hit.missing ?? metadata.missing ? "The file is gone. The photo stays in the collection until tandem index --prune." : null,
    };
    this.known.replaceChildren(...Object.entries(lines).filter(([, text]) => text).flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  }

  /** Small images are enlarged, up to a limit. */
  fit(width, height) {
    this.image.style.maxWidth = width ? `${width * ENLARGED}px` : "";
    this.image.style.maxHeight = height ? `${height * ENLARGED}px` : "";
  }

  /** The film from a moment on, if the browser plays it; else the picture of the moment stays. */
  async showFilm(id, time, renewed = false) {
    const stays = (why) => {
      if (this.id !== id) return;
      this.stopFilm();
      this.gone.hidden = false;
      this.gone.textContent = why;
    };
    this.image.classList.remove("small");
    let link;
    try {
      link = await playable(id, this.session.collection);
    } catch (error) {
      return stays(`This is a picture of the film. ${error.message}`);
    }
    if (this.id !== id) return;
    const ends = performance.now() + link.lasts_s * 1000;
    this.original.hidden = link.lasts_s !== Infinity; // it would soon lead nowhere
    this.original.href = `${link.url}#t=${time}`;
    this.film.onloadeddata = () => {
      if (this.id !== id) return;
      this.located.clear(); // it was found in the picture
      this.image.hidden = true;
      this.film.hidden = false;
      if (renewed) this.film.play().catch(() => {});
      renewed = false;
    };
    this.film.onerror = () => {
      if (!renewed && performance.now() >= ends) return this.showFilm(id, this.film.currentTime || time, true);
      stays("This is a picture of the film. The film was moved, or has a format that this browser does not play.");
    };
    this.film.setAttribute("aria-label", `${this.title.textContent}, from this moment on`);
    this.film.src = `${link.url}#t=${time}`;
  }

  stopFilm() {
    this.film.onerror = this.film.onloadeddata = null;
    this.film.pause();
    this.film.removeAttribute("src");
    this.film.load();
    this.film.hidden = true;
    this.image.hidden = false;
  }

  /** The thumbnail at once, the original when it has loaded. */
  async showImage(id, { width, height, time }) {
    const { collection } = this.session;
    this.stopFilm();
    this.image.classList.add("small");
    this.image.removeAttribute("src"); // do not show the previous image while this one loads
    this.gone.hidden = true;
    this.fit(width, height);
    imageUrl(thumbnailPath(id, collection)).then((address) => { if (this.id === id && this.image.classList.contains("small")) this.image.src = address; }, () => {});
    this.located.call(time === undefined ? "photo" : "frame");
    if (time !== undefined) return this.showFilm(id, time);
    try {
      const address = await imageUrl(originalPath(id, collection));
      this.original.href = address;
      const large = new Image();
      large.src = address;
      await large.decode();
      if (this.id !== id) return;
      this.image.src = address;
      this.image.classList.remove("small");
      this.original.hidden = false;
    } catch {
      if (this.id !== id) return;
      this.original.hidden = true;
      this.image.classList.remove("small");
      this.gone.hidden = false;
      this.gone.textContent = "This is the thumbnail. The original is in an archive, was moved, or has a format that browsers do not show.";
    }
  }

  async sees(labels, independent, signal) {
    if (!this.id) return null;
    const answer = await ask("/v1/label", { ids: [this.id], labels, independent, collection: this.session.collection }, signal);
    return answer.results[0]?.probabilities ?? null;
  }
}
