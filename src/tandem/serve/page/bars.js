// Editable labels, each with a bar of its probability: among all of them, or by itself.
import { keep, kept } from "./browser_storage.js";
import { calm, icon, later, make } from "./dom.js";
import { percent } from "./format.js";

const TYPING_MS = 180;
const MAX_LABELS = 64;
const TRUE = 0.5;

/** The labels used last, stored in this browser only. */
export function keptLabels(name, otherwise) {
  try {
    const labels = JSON.parse(kept(name));
    if (Array.isArray(labels) && labels.length && labels.every((label) => typeof label === "string")) return labels;
  } catch { /* something else was kept */ }
  return otherwise;
}

export class LabelBars {
  /** `ask(labels, independent, signal)` -> { label: probability }, or null where there is nothing to ask about yet. */
  constructor(name, labels, ask) {
    this.name = name;
    this.ask = ask;
    this.rows = [];
    this.list = make("ul", { class: "bars" });
    this.input = make("input", {
      type: "text", class: "new-label", placeholder: "Add a label…", "aria-label": "Add a label", autocomplete: "off", maxlength: 200,
      onkeydown: (event) => this.typed(event), onchange: () => this.take(),
      onpaste: () => setTimeout(() => this.input.value.includes(",") && this.take()),
    });
    this.independent = make("input", { type: "checkbox", id: `${name}-independent`, checked: kept(`${name}-independent`) === "yes", onchange: () => this.switched() });
    const meaning = make("span", { class: "meaning" }, "Each is judged by itself: several may be true, or none.");
    const choice = make("label", { class: "switch", for: this.independent.id }, this.independent, make("span", {}, "Independent labels", meaning));
    this.said = make("p", { class: "bars-said", role: "status" });
    this.element = make("div", { class: "label-bars" }, this.list, this.input, choice, this.said);
    this.soon = later(() => this.refresh(), TYPING_MS);
    for (const label of labels) this.addRow(label);
  }

  labels() {
    return [...new Set(this.rows.map((row) => row.input.value.trim()).filter(Boolean))];
  }

  addRow(label) {
    const row = {};
    row.input = make("input", {
      type: "text", value: label, "aria-label": "Label", autocomplete: "off", maxlength: 200,
      oninput: () => {
        away.setAttribute("aria-label", `Remove label ${row.input.value}`);
        this.changed();
      },
      onkeydown: (event) => event.key === "Enter" && this.input.focus(), onblur: () => this.sort(),
    });
    row.fill = make("span", { class: "fill" });
    row.number = make("span", { class: "number" });
    const away = make("button", { type: "button", "aria-label": `Remove label ${label}`, onclick: () => this.remove(row) }, icon("close"));
    row.element = make("li", {}, row.input, make("span", { class: "track", "aria-hidden": "true" }, row.fill), row.number, away);
    this.rows.push(row);
    this.list.append(row.element);
  }

  typed(event) {
    if (event.key === "Enter" || event.key === ",") {
      event.preventDefault();
      this.take();
    } else if (event.key === "Backspace" && !this.input.value && this.rows.length) {
      event.preventDefault();
      this.remove(this.rows.at(-1));
    }
  }

  take() {
    const there = this.labels();
    const fresh = this.input.value.split(",").map((label) => label.trim()).filter((label) => label && !there.includes(label));
    this.input.value = "";
    for (const label of new Set(fresh)) if (this.rows.length < MAX_LABELS) this.addRow(label);
    if (fresh.length) this.changed();
  }

  remove(row) {
    this.rows.splice(this.rows.indexOf(row), 1);
    row.element.remove();
    this.input.focus();
    this.changed();
  }

  changed() {
    keep(this.name, JSON.stringify(this.labels()));
    this.soon();
  }

  switched() {
    keep(`${this.name}-independent`, this.independent.checked ? "yes" : "no");
    this.refresh();
  }

  /** Ask anew: the labels changed, or what they are about. */
  async refresh() {
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    const labels = this.labels();
    if (!labels.length) return this.say("Add labels of your own: the model says how they compare.");
    const independent = this.independent.checked;
    if (labels.length === 1 && !independent) { // it would have 100% of whatever is seen
      this.put(null);
      return this.say("Labels compete: add another one to compare with.");
    }
    try {
      const shares = await this.ask(labels, independent, asked.signal);
      if (asked.signal.aborted) return;
      this.put(shares, independent);
      this.say("");
    } catch (error) {
      if (error.name === "AbortError") return;
      this.put(null);
      this.say(error.message, true);
    }
  }

  /** The best label stands out; of independent ones those that are likelier true than not. */
  put(shares, independent = false) {
    const least = independent ? TRUE : Math.max(...Object.values(shares ?? {}));
    for (const row of this.rows) {
      const share = shares?.[row.input.value.trim()];
      row.share = share ?? -1;
      row.element.classList.toggle("best", share !== undefined && share >= least);
      row.fill.style.width = `${(share ?? 0) * 100}%`;
      row.number.textContent = share === undefined ? "" : percent(share);
    }
    this.sort();
  }

  /** The likeliest first; rows glide to their places. Not while one of them is being written in. */
  sort() {
    if (this.list.contains(document.activeElement)) return;
    const sorted = [...this.rows].sort((one, other) => (other.share ?? -1) - (one.share ?? -1));
    if (sorted.every((row, place) => row === this.rows[place])) return;
    const before = new Map(this.rows.map((row) => [row, row.element.offsetTop]));
    this.rows = sorted;
    this.list.append(...sorted.map((row) => row.element));
    if (calm()) return;
    for (const row of sorted) {
      const moved = before.get(row) - row.element.offsetTop;
      if (moved) row.element.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 260, easing: "ease-out" });
    }
  }

  say(text, wrong = false) {
    this.said.textContent = text;
    this.said.classList.toggle("wrong", wrong);
  }

  close() {
    this.soon.cancel();
    this.asked?.abort();
  }
}
