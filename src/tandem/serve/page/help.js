// The help: keys, and what relevance and the percentages of labels mean.
import { icon, make } from "./dom.js";

const KEYS = {
  "Anywhere": [["/", "search"], ["?", "this help"]],
  "Photos": [["← → ↑ ↓", "move between photos"], ["Enter", "open"], ["Tab, Enter", "more like this"]],
  "An open photo": [["← →", "previous, next"], ["Esc", "close"]],
  "Map": [["← → ↑ ↓", "move"], ["+ −", "zoom in, out"], ["0", "show everything"], ["Enter", "open the photo in the middle"]],
};

const NOTES = {
  "Relevance": "is the estimated probability that a photo shows what you searched for; “Show relevance” above the results shows it. It is calibrated: of many photos at 30%, about three in ten match. Where the model cannot tell matches from other photos there is none, and only the order counts.",
  "Labels": "compete: their percentages compare them, and do not say whether any fits. Independent labels are judged one by one: several may be true, or none. That takes a model that was trained for it, or a calibration.",
  "Your own photos": "can be dropped anywhere, pasted or chosen, and combined with text. They are sent to this server only, and not stored.",
  "Filters": "narrow a search by name, size, format or date. A condition can use any other field: width > 1000 and caption is not null.",
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
        make("p", { class: "help-more" }, "For programs, see the ", make("a", { href: "/docs" }, "HTTP interface"), " of this server."),
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
