// One picture in a dialog: large, with what is known of it and what the model sees in it.
import { ask, describedPath, originalPath, pictureAddress, thumbnailPath } from "./api.js";
import { go, here, leaveFor, linkHere, linkWith } from "./address.js";
import { LabelBars, keptLabels } from "./bars.js";
import { icon, make } from "./elements.js";
import { band, fileName, fileSize, moment, percent, pixels, place } from "./wording.js";

const LABELS = ["person", "animal", "plant", "food", "building", "vehicle", "landscape", "drawing"];
const ENLARGED = 3;

export class PictureDialog {
  /** `focus(id)`: put the focus on a picture of the view behind, if it is there. */
  constructor(session, focus) {
    this.session = session;
    this.focusBehind = focus;
    this.id = null;
    this.image = make("img", { class: "shown", alt: "", onerror: () => this.image.removeAttribute("src") });
    this.stage = make("div", { class: "stage" }, this.image);
    this.title = make("h2", { id: "picture-title" });
    this.relevance = make("p", { class: "fits" });
    this.known = make("dl", {});
    this.gone = make("p", { class: "gone", hidden: true });
    this.bars = new LabelBars("tandem-picture-labels", keptLabels("tandem-picture-labels", LABELS), (labels, signal) => this.sees(labels, signal));
    this.before = this.button("left", "Previous picture", () => this.step(-1));
    this.after = this.button("right", "Next picture", () => this.step(1));
    this.closing = this.button("close", "Close", () => this.leave());
    this.original = make("a", { class: "button", target: "_blank", rel: "noopener" }, icon("open"), "Open the file");
    const alike = make("button", { type: "button", class: "primary", onclick: () => go(linkHere("search", { like: this.id })) }, icon("alike"), "More like this");
    this.element = make(
      "dialog",
      {
        class: "picture", "aria-labelledby": "picture-title",
        onkeydown: (event) => this.key(event),
        onclick: (event) => event.target === this.element && this.leave(),
        oncancel: (event) => { event.preventDefault(); this.leave(); },
      },
      make("div", { class: "picture-frame" },
        make("div", { class: "view" }, this.stage, this.before, this.after),
        make("div", { class: "aside" },
          make("div", { class: "aside-head" }, this.title, this.closing),
          this.relevance,
          this.body = make("div", { class: "picture-body" },
            make("div", { class: "actions" }, alike, this.original),
            make("h3", {}, "What the model sees"),
            this.bars.element,
            make("h3", {}, "About the picture"),
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

  /** Follow the address: open, change, or close. */
  moved() {
    const { values } = here();
    if (values.picture) this.open(values.picture);
    else if (this.element.open) this.close();
  }

  leave() {
    leaveFor(linkWith({ picture: "" }));
  }

  close() {
    const last = this.id;
    this.id = null;
    this.bars.close();
    this.element.close();
    // Where one has walked from picture to picture, the last one is where one is.
    if (last !== this.first && this.focusBehind(last)) return;
    if (this.from?.isConnected) this.from.focus();
  }

  step(by) {
    const at = this.session.hits.findIndex((hit) => hit.id === this.id);
    const to = at < 0 ? null : this.session.hits[at + by];
    if (to) go(linkWith({ picture: to.id }), { replace: true });
  }

  key(event) {
    if (event.target.matches("input")) return;
    if (event.key === "ArrowLeft") this.step(-1);
    if (event.key === "ArrowRight") this.step(1);
  }

  async open(id) {
    if (id === this.id) return;
    this.id = id;
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
      this.closing.focus(); // the last picture has no next one
    }
    this.tell(hits[at] ?? { id, path: "", relevance: null, metadata: {} });
    this.showImage(id, hits[at]?.metadata ?? {});
    this.bars.refresh();
    if (at < 0) await this.look(id);
  }

  /** What is known of a picture that no search has just found. */
  async look(id) {
    try {
      const { path = "", ...metadata } = await ask(describedPath(id, this.session.collection));
      if (this.id !== id) return;
      this.tell({ id, path, relevance: null, metadata });
      this.fit(metadata.width, metadata.height);
    } catch (error) {
      if (this.id !== id) return;
      this.body.hidden = error.status === 404; // nothing can be done with what is not there
      this.title.textContent = error.status === 404 ? "This picture is not here" : "Picture";
      this.relevance.textContent = error.status === 404 ? "It may have been taken out of the collection, or be in another one." : error.message;
    }
  }

  tell(hit) {
    this.body.hidden = false;
    const { metadata } = hit;
    const name = hit.path ? fileName(hit.path) : "Picture";
    this.title.textContent = name;
    this.image.alt = metadata.caption?.split("\n")[0] || name;
    const { query, threshold } = this.session;
    const words = band(hit.relevance, threshold ?? null);
    this.relevance.textContent = words ? `${words}: ${percent(hit.relevance)} likely to match${query ? ` “${query}”` : ""}` : "";
    const lines = {
      Caption: metadata.caption,
      Size: metadata.width && pixels(metadata.width, metadata.height),
      File: [metadata.format, metadata.bytes && fileSize(metadata.bytes)].filter(Boolean).join(", "),
      Taken: metadata.taken && moment(metadata.taken),
      Place: metadata.latitude !== undefined && metadata.longitude !== undefined ? place(metadata.latitude, metadata.longitude) : null,
      Path: (metadata.paths ?? [hit.path]).join("\n"),
      Cosine: hit.relevance === null || hit.score === undefined ? null : hit.score.toFixed(3),
      "Put in": metadata.indexed && moment(metadata.indexed),
    };
    this.known.replaceChildren(...Object.entries(lines).filter(([, text]) => text).flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  }

  /** Small pictures are enlarged, but not until they are nothing but blur. */
  fit(width, height) {
    this.image.style.maxWidth = width ? `${width * ENLARGED}px` : "";
    this.image.style.maxHeight = height ? `${height * ENLARGED}px` : "";
  }

  /** The thumbnail at once, the file itself when it has come. */
  async showImage(id, { width, height }) {
    const { collection } = this.session;
    this.image.classList.add("small");
    this.image.removeAttribute("src"); // not the one before, while this one is on its way
    this.gone.hidden = true;
    this.fit(width, height);
    pictureAddress(thumbnailPath(id, collection)).then((address) => { if (this.id === id && this.image.classList.contains("small")) this.image.src = address; }, () => {});
    try {
      const address = await pictureAddress(originalPath(id, collection));
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
      this.gone.textContent = "Shown is the thumbnail: the file itself is inside an archive, was moved, or is of a kind that browsers do not show.";
    }
  }

  async sees(labels, signal) {
    if (!this.id) return null;
    const answer = await ask("/v1/label", { ids: [this.id], labels, collection: this.session.collection }, signal);
    return answer.results[0]?.probabilities ?? null;
  }
}
