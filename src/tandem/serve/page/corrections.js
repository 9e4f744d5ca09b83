// "This is a ...": the right label of a photo, kept on the server to learn from. Hidden where the server keeps none.
import { ask } from "./api.js";
import { make } from "./dom.js";

export class Correction {
  /** `photo()` -> { image } with a data URI, or { id, collection }, or null; `labels()` -> what is offered while typing. */
  constructor(name, photo, labels) {
    this.photo = photo;
    this.labels = labels;
    this.accepted = null; // not known yet
    this.known = make("datalist", { id: `${name}-labels` });
    this.input = make("input", { type: "text", id: name, list: `${name}-labels`, autocomplete: "off", onfocus: () => this.offer() });
    this.button = make("button", { class: "button" }, "Keep");
    this.said = make("p", { class: "bars-said", role: "status" });
    this.element = make("form", { class: "correction field", hidden: true, onsubmit: (event) => this.keep(event) },
      make("label", { for: name }, "Not right? This is a"),
      make("div", { class: "correction-row" }, this.input, this.button), this.known, this.said);
  }

  /** Another photo, or other labels. Whether the server keeps any is asked with the first photo. */
  show() {
    if (this.accepted === null && this.photo()) this.load();
    this.element.hidden = !(this.accepted && this.photo());
    this.say("");
  }

  async load() {
    this.accepted = false;
    try {
      const { accepted, max_label_bytes: longest } = await ask("/v1/corrections");
      this.accepted = accepted;
      this.input.maxLength = longest; // characters; those of several bytes are counted by the server
      if (this.accepted) this.show();
    } catch {
      this.accepted = null; // asked again with the next photo
    }
  }

  offer() {
    this.known.replaceChildren(...this.labels().map((label) => make("option", { value: label })));
  }

  async keep(event) {
    event.preventDefault();
    const label = this.input.value.trim();
    if (!label) return this.say("Say what it is: the label is empty.", true);
    this.button.disabled = true;
    try {
      const kept = await ask("/v1/corrections", { ...this.photo(), label });
      const count = kept.labels[kept.label];
      this.input.value = "";
      this.say(`Kept as ${kept.label}: ${count.toLocaleString("en")} ${count === 1 ? "photo" : "photos"} so far.`);
    } catch (error) {
      this.say(error.message, true);
    } finally {
      this.button.disabled = false;
    }
  }

  say(text, wrong = false) {
    this.said.textContent = text;
    this.said.classList.toggle("wrong", wrong);
  }
}
