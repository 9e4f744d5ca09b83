// What the page can do that its buttons do not say: keys, and how its numbers are meant.
import { icon, make } from "./elements.js";

const KEYS = {
  "Anywhere": [["/", "search"], ["?", "this help"]],
  "Pictures": [["← → ↑ ↓", "from one to the next"], ["Enter", "open"], ["Tab, Enter", "more like it"]],
  "An open picture": [["← →", "the one before, the next"], ["Esc", "close"]],
  "Map": [["← → ↑ ↓", "move"], ["+ −", "closer, farther"], ["0", "everything"], ["Enter", "open the picture in the middle"]],
};

const NOTES = {
  "The percentages": "are how likely the model thinks it is that a picture shows what was asked for. They are calibrated: of many pictures with 30%, about three in ten should. How sure a model can be differs from question to question; the order counts for more than the number.",
  "Pictures of your own": "can be dropped anywhere, pasted or chosen, and combined with words. They are sent to this server only, and not kept.",
  "Filters": "narrow a search by name, size, format or date. A condition is for anything else that is known of a picture: width > 1000 and caption is not null.",
};

export class Help {
  constructor() {
    const rows = (pairs) => make("dl", {}, pairs.flatMap(([keys, meaning]) => [make("dt", {}, keys.split(" ").map((key) => (key.endsWith(",") ? [make("kbd", {}, key.slice(0, -1)), ", "] : [make("kbd", {}, key), " "])).flat()), make("dd", {}, meaning)]));
    const closing = make("button", { type: "button", class: "round", "aria-label": "Close", onclick: () => this.close() }, icon("close"));
    this.element = make(
      "dialog",
      { class: "help", "aria-labelledby": "help-title", onclick: (event) => event.target === this.element && this.close() },
      make(
        "div",
        { class: "help-frame" },
        make("div", { class: "aside-head" }, make("h2", { id: "help-title" }, "Help"), closing),
        Object.entries(NOTES).map(([what, text]) => make("p", {}, make("strong", {}, what), ` ${text}`)),
        make("h3", {}, "Keys"),
        make("div", { class: "keys" }, Object.entries(KEYS).map(([where, pairs]) => make("section", {}, make("h4", {}, where), rows(pairs)))),
        make("p", { class: "help-more" }, "Programs ask the same server: ", make("a", { href: "/docs" }, "its interface"), "."),
      ),
    );
    document.body.append(this.element);
  }

  open() {
    if (!document.querySelector("dialog[open]")) this.element.showModal();
  }

  close() {
    if (this.element.open) this.element.close();
  }
}
