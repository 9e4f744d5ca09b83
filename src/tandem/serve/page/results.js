// The hits of a search, grouped by relevance, with more of them as the user scrolls; or the reason why there are none.
import { ask } from "./api.js";
import { announce, icon, make } from "./dom.js";
import { Grid } from "./grid.js";
import { PROBABLY_NOT, band, count } from "./format.js";

const PAGE = 60;
const MAX_REMEMBERED = 8;
const GHOSTS = 18;

// To ask the same again would give the same answer.
const refused = ({ status }) => status === 400 || status === 422;

export class Results {
  /** `like(hit)` is called for "more like this". */
  constructor(session, like) {
    Object.assign(this, { session, like, grids: [], answer: null, key: null, done: true });
    this.remembered = new Map(); // key -> { answer, hits, scrolled }, for steps back
    this.message = make("div", { class: "messages" });
    this.toggle = make("input", { type: "checkbox", id: "relevance", checked: session.relevance, onchange: () => this.showRelevance(this.toggle.checked) });
    this.reason = make("p", { class: "relevance-reason", role: "status" });
    this.head = make("div", { class: "results-head", hidden: true }, make("label", { class: "switch", for: "relevance" }, this.toggle, "Show relevance"), this.reason);
    this.list = make("div", { class: "results" });
    this.end = make("div", { class: "end" });
    this.element = make("div", {}, this.message, this.head, this.list, this.end);
    this.watcher = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && this.more(), { rootMargin: "900px" });
    this.watcher.observe(this.end);
  }

  /** Clear the results: there is no search. */
  leave() {
    this.running?.abort();
    this.remember();
    this.key = null;
    this.clear();
    this.session.hits = [];
  }

  /** Remember the hits, for when the user comes back. */
  remember() {
    if (!this.answer) return;
    this.remembered.delete(this.key);
    this.remembered.set(this.key, { answer: this.answer, hits: this.session.hits, scrolled: scrollY });
    if (this.remembered.size > MAX_REMEMBERED) this.remembered.delete(this.remembered.keys().next().value);
  }

  /** Run a search, identified by `key`. `back`: the user has come back to it, and finds it as it was. `note` is shown above; `typed` is a condition within the filter. */
  async show(question, key, { back = false, note = null, typed = null } = {}) {
    this.running?.abort();
    if (key !== this.key) this.remember();
    const running = (this.running = new AbortController());
    Object.assign(this, { question, key, note, done: true });
    const before = back && this.remembered.get(key);
    if (before) {
      this.start(before.answer, before.hits);
      scrollTo({ top: before.scrolled });
      return;
    }
    this.element.classList.add("busy");
    if (!this.list.childElementCount) this.list.append(make("div", { class: "ghosts", "aria-hidden": "true" }, Array.from({ length: GHOSTS }, () => make("span"))));
    try {
      const answer = await ask("/v1/search", { ...question, k: PAGE, offset: 0 }, running.signal);
      if (running.signal.aborted) return;
      this.start(answer, answer.hits);
      scrollTo({ top: 0 });
    } catch (error) {
      if (error.name === "AbortError") return;
      const wrong = refused(error) && typed && typed !== question.where ? await this.wrongIn(typed, question, running.signal) : null;
      if (running.signal.aborted) return;
      this.clear();
      this.complain(wrong ?? error, refused(error) ? null : () => this.show(question, key, { typed }));
    }
  }

  /** What the server says of the condition as it was typed, without the filters beside it; null if that is fine. */
  async wrongIn(typed, question, signal) {
    try {
      await ask("/v1/search", { ...question, where: typed, k: 1, offset: 0 }, signal);
      return null;
    } catch (error) {
      return refused(error) ? error : null;
    }
  }

  start(answer, hits) {
    this.clear();
    const { question } = this;
    this.answer = answer;
    this.session.hits = [];
    Object.assign(this.session, { query: question.text ?? null, threshold: answer.threshold });
    if (!hits.length) {
      const [what, advice] = question.where ? ["No photo passes these filters.", "Change or remove one of them."] : ["The collection is empty.", "Add photos to it with tandem index."];
      this.message.append(make("div", { class: "nothing", role: "status" }, make("h2", {}, what), make("p", {}, advice)));
      return;
    }
    this.head.hidden = false;
    this.sayReason();
    if (this.note) this.message.append(make("p", { class: "message", role: "status" }, this.note));
    if (answer.nothing_matches) {
      const what = question.text ? `Nothing matches “${question.text}” well` : "Nothing here is similar to it";
      this.message.append(make("div", { class: "nothing" }, make("h2", {}, what), make("p", {}, "These are the nearest photos.")));
      announce(`${what}. These are the nearest photos.`);
    } else if (answer.relevance_reason) {
      announce(`${count(hits.length, "photo")}, nearest first`);
    } else {
      const good = hits.filter((hit) => band(hit.relevance, answer.threshold) !== PROBABLY_NOT).length;
      announce(good < hits.length || hits.length < PAGE ? count(good, "match", "matches") : `${good} matches or more`);
    }
    this.add(hits, hits.length % PAGE === 0);
  }

  add(hits, isMore) {
    const there = new Set(this.session.hits.map(({ id }) => id)); // images added meanwhile shift the pages
    const fresh = hits.filter(({ id }) => !there.has(id));
    this.session.hits.push(...fresh);
    const { nothing_matches: nothing, threshold } = this.answer;
    for (const hit of fresh) {
      const name = nothing ? "Nearest" : (band(hit.relevance, threshold) ?? "Nearest first");
      if (this.grids.at(-1)?.name !== name) {
        const grid = new Grid(name, this.like, this.session.relevance);
        this.grids.push({ name, grid, waiting: [] });
        this.list.append(make("section", { class: name === PROBABLY_NOT ? "faint" : "" }, nothing ? null : make("h2", { class: "band" }, name), grid.list));
      }
      this.grids.at(-1).waiting.push(hit);
    }
    for (const { grid, waiting } of this.grids) if (waiting.length) grid.add(waiting.splice(0));
    this.done = !isMore;
    this.asked = this.session.hits.length;
    this.end.textContent = this.done && this.asked > 12 ? `That is all: ${count(this.asked, "photo")}.` : "";
    // An observer reports changes only: observed anew, it reports an end that is still near.
    this.watcher.unobserve(this.end);
    this.watcher.observe(this.end);
  }

  async more() {
    if (this.done || !this.element.isConnected) return;
    this.done = true;
    const { signal } = this.running;
    try {
      const { hits } = await ask("/v1/search", { ...this.question, k: PAGE, offset: this.asked }, signal);
      if (signal.aborted) return;
      this.add(hits, hits.length === PAGE);
      announce(`${count(this.asked, "photo")} shown`);
    } catch (error) {
      if (error.name === "AbortError") return;
      const again = () => {
        this.done = false;
        this.end.textContent = "";
        this.more();
      };
      this.end.replaceChildren(make("p", { role: "alert" }, error.message), make("button", { type: "button", class: "button", onclick: again }, "Try again"));
    }
  }

  /** Show the relevance of every hit, or why it is not known; or neither. */
  showRelevance(shown) {
    this.session.showRelevance(shown);
    for (const { grid } of this.grids) grid.showRelevance(shown);
    this.sayReason();
  }

  sayReason() {
    const reason = this.session.relevance && this.answer?.relevance_reason;
    this.reason.textContent = reason ? `No relevance: ${reason}.` : "";
  }

  /** Focus an image. Whether it is among the hits. */
  focus(id) {
    return this.grids.some(({ grid }) => grid.focus(id));
  }

  clear() {
    for (const { grid } of this.grids) grid.close();
    this.grids = [];
    this.answer = null;
    this.list.replaceChildren();
    this.head.hidden = true;
    this.message.replaceChildren();
    this.end.textContent = "";
    this.element.classList.remove("busy");
  }

  say(text) {
    this.message.replaceChildren(make("p", { class: "message", role: "status" }, text));
  }

  /** Show an error, with a button to try again or to close the message. */
  complain(error, again = null) {
    this.element.classList.remove("busy");
    const button = again
      ? make("button", { type: "button", onclick: again }, "Try again")
      : make("button", { type: "button", class: "away", "aria-label": "Close the message", onclick: () => this.message.replaceChildren() }, icon("close"));
    this.message.replaceChildren(make("div", { class: "message wrong", role: "alert" }, make("strong", {}, error.title ?? "That did not work"), make("p", {}, error.message), button));
  }
}
