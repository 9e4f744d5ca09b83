// The heads that the server offers: a choice among them, and bars of a head's classes. Their classes cannot be edited.
import { ask } from "./api.js";
import { make } from "./dom.js";
import { percent } from "./format.js";

const SHOWN = 10;

/** The choice between labels of one's own and the server's heads; hidden where there are none. */
export class HeadChoice {
  /** `changed()` is called when another one is chosen; `chosen` is then its entry of /v1/heads, or null. */
  constructor(changed) {
    this.heads = [];
    this.select = make("select", { id: "head", onchange: () => { this.say(); changed(); } });
    this.about = make("p", { class: "meaning" });
    this.element = make("div", { class: "field", hidden: true }, make("label", { for: "head" }, "Classify by"), this.select, this.about);
  }

  get chosen() {
    return this.heads.find((head) => head.name === this.select.value) ?? null;
  }

  async load() {
    this.heads = (await ask("/v1/heads")).data;
    const before = this.select.value;
    this.select.replaceChildren(make("option", { value: "" }, "labels of my own"), ...this.heads.map(({ name }) => make("option", { value: name, selected: name === before }, name)));
    this.element.hidden = !this.heads.length;
    this.say();
  }

  /** What is known of the chosen one. */
  say() {
    const head = this.chosen;
    this.about.textContent = ""; // nothing of another head stays, whatever happens
    this.about.textContent = head ? `${head.classes.length.toLocaleString("en")} classes, learned from labelled photos.${head.accuracy ? ` ${worth(head.accuracy)}` : ""}` : "";
  }
}

/** Its accuracy with the interval, as /v1/heads gives them. */
function worth({ value, interval: [low, high], n, chance }) {
  const guessing = chance ? `; guessing gives ${percent(chance)}` : "";
  return `${percent(value)} of ${n.toLocaleString("en")} photos were right when left out of the learning (95% from ${percent(low)} to ${percent(high)}${guessing}).`;
}

/** The likeliest classes with their bars, likeliest first. */
export function headBars(probabilities) {
  const best = Object.entries(probabilities).sort(([, one], [, other]) => other - one).slice(0, SHOWN);
  return best.map(([name, share], place) => make("li", { class: place ? null : "best" },
    make("span", { class: "class-name" }, name),
    make("span", { class: "track", "aria-hidden": "true" }, bar(share)),
    make("span", { class: "number" }, percent(share)),
  ));
}

function bar(share) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${share * 100}%`; // a style attribute would be against the page's policy
  return fill;
}
