// The search: words, a picture, or both; hits as they come, in bands of how likely they are.
import { ask, show, thumbnailPath } from "./api.js";
import { go, here, link } from "./address.js";
import { announce, icon, later, make } from "./elements.js";
import { FILTER_NAMES, filterChips, filterForm, filtersIn, whereOf } from "./filters.js";
import { Grid } from "./grid.js";
import { readPicture } from "./incoming.js";
import { Welcome } from "./welcome.js";
import { PROBABLY_NOT, band, count } from "./wording.js";

const PAGE = 60;
const TYPING_MS = 140;

export class Search {
  constructor(session) {
    this.session = session;
    this.picture = null; // { uri, name } that was dropped, pasted or chosen; one of the collection is in the address
    this.asked = "";
    this.grids = [];
    this.soon = later(() => this.write({ q: this.words.value.trim() }, true), TYPING_MS);
    this.build();
  }

  build() {
    this.words = make("input", {
      type: "search", id: "words", placeholder: "Describe a picture…", "aria-label": "Search for", autocomplete: "off", enterkeyhint: "search",
      maxlength: 1000, oninput: () => this.soon(),
    });
    this.chip = make("div", { class: "asked-picture", hidden: true });
    this.file = make("input", { type: "file", accept: "image/*", hidden: true, onchange: () => this.take(this.file.files[0]) });
    const choose = make("button", { type: "button", class: "quiet", "aria-label": "Search by a picture", title: "Search by a picture: choose, drop or paste one", onclick: () => this.file.click() }, icon("picture"));
    const [form, fill] = filterForm((change) => this.write(change));
    [this.form, this.fillForm] = [form, fill];
    this.filterButton = make("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": "filters", "aria-label": "Filters", title: "Filters", onclick: () => this.openFilters(form.hidden) }, icon("filter"));
    const box = make("form", { class: "search-box", role: "search", onsubmit: (event) => this.submitted(event) }, icon("search"), this.chip, this.words, choose, this.file, this.filterButton);
    this.balance = make("input", { type: "range", min: 0, max: 100, step: 5, value: 50, id: "balance", oninput: later(() => this.refresh(), 80) });
    this.balancing = make("div", { class: "balance", hidden: true }, make("label", { for: "balance" }, "Picture"), this.balance, make("span", { "aria-hidden": "true" }, "Words"));
    this.balance.setAttribute("aria-label", "How much the words count beside the picture");
    this.chips = make("div", {});
    this.message = make("div", { class: "messages" });
    this.results = make("div", { class: "results" });
    this.end = make("div", { class: "end" });
    this.welcome = new Welcome(this.session, (words) => this.write({ q: words }));
    this.element = make("section", { class: "search", "aria-label": "Search" }, make("h1", { class: "unseen" }, "Search"), make("div", { class: "search-top" }, box, this.balancing, form, this.chips), this.message, this.welcome.element, this.results, this.end);
    this.watcher = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && this.more(), { rootMargin: "900px" });
    this.watcher.observe(this.end);
  }

  submitted(event) {
    event.preventDefault();
    this.soon.cancel();
    this.write({ q: this.words.value.trim() });
  }

  openFilters(open) {
    this.form.hidden = !open;
    this.filterButton.setAttribute("aria-expanded", String(open));
    if (open) this.form.elements[0].focus();
  }

  /** Change what is asked: it is in the address, and `moved` hears of it. */
  write(change, replace = false) {
    const { values } = here();
    go(link("search", { ...values, picture: "", ...change }), { replace });
  }

  async take(file) {
    this.file.value = "";
    if (!file) return;
    try {
      this.picture = await readPicture(file);
    } catch (error) {
      this.complain(error);
      return;
    }
    const { values } = here();
    if (values.like) this.write({ like: "" });
    else this.moved();
  }

  dropPicture() {
    this.picture = null;
    if (here().values.like) this.write({ like: "" });
    else this.moved();
    this.words.focus();
  }

  like(hit) {
    this.picture = null;
    this.soon.cancel();
    go(link("search", { ...filtersIn(here().values), like: hit.id }));
    scrollTo({ top: 0 });
    this.words.focus({ preventScroll: true });
  }

  /** The address changed: ask if something else is asked now. */
  moved() {
    const { values } = here();
    if (values.like) this.picture = null;
    // What is being typed is newer than the address.
    if (!this.soon.pending() && this.words.value.trim() !== (values.q ?? "")) this.words.value = values.q ?? "";
    this.filters = filtersIn(values);
    this.fillForm(this.filters);
    if (values.where) this.openFiltersQuietly();
    const set = Object.keys(this.filters).length;
    this.chips.replaceChildren(...(set ? [filterChips(this.filters, (change) => this.write(change))] : []));
    this.filterButton.classList.toggle("on", set > 0);
    this.showChip(values.like);
    const asked = JSON.stringify([values.q, values.like, this.picture?.uri, ...FILTER_NAMES.map((name) => values[name])]);
    if (asked !== this.asked) {
      this.asked = asked;
      this.refresh();
    }
  }

  openFiltersQuietly() {
    this.form.hidden = false;
    this.filterButton.setAttribute("aria-expanded", "true");
  }

  showChip(like) {
    const has = Boolean(like || this.picture);
    this.chip.hidden = !has;
    this.balancing.hidden = !(has && here().values.q);
    if (!has) return this.chip.replaceChildren();
    const image = make("img", { alt: like ? "The picture to look for more like" : `The picture to search by: ${this.picture.name}` });
    if (like) show(image, thumbnailPath(like, this.session.collection));
    else image.src = this.picture.uri;
    this.chip.replaceChildren(image, make("button", { type: "button", "aria-label": "Remove the picture", onclick: () => this.dropPicture() }, icon("close")));
  }

  question() {
    const { values } = here();
    const asked = { k: PAGE, where: whereOf(this.filters), collection: this.session.collection };
    if (values.q) asked.text = values.q;
    if (values.like) asked.like = values.like;
    else if (this.picture) asked.image = this.picture.uri;
    if (asked.text && (asked.like || asked.image)) asked.weight = Number(this.balance.value) / 100;
    return asked;
  }

  async refresh() {
    this.running?.abort();
    const running = (this.running = new AbortController());
    const asked = this.question();
    this.done = true;
    if (!asked.text && !asked.like && !asked.image) {
      this.clear();
      this.session.hits = [];
      document.title = "Tandem";
      this.welcome.show();
      if (Object.keys(this.filters).length) this.say("Filters narrow a search: say what to look for.");
      return;
    }
    document.title = asked.text ? `${asked.text} · Tandem` : "By picture · Tandem";
    this.element.classList.add("busy");
    try {
      const answer = await ask("/v1/search", { ...asked, offset: 0 }, running.signal);
      this.clear();
      this.welcome.hide();
      this.start(answer, asked);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.clear();
      this.welcome.hide();
      this.complain(error);
    }
    this.element.classList.remove("busy");
  }

  start(answer, asked) {
    this.answer = answer;
    this.session.hits = [];
    Object.assign(this.session, { query: asked.text ?? null, threshold: answer.threshold });
    scrollTo({ top: 0 });
    if (!answer.hits.length) {
      const why = asked.where ? "No picture passes these filters." : "The collection is empty.";
      this.message.append(make("div", { class: "nothing", role: "status" }, make("h2", {}, why), asked.where ? make("p", {}, "Loosen or remove one of them.") : null));
      return;
    }
    if (answer.nothing_matches) {
      const what = asked.text ? `Nothing matches “${asked.text}” well` : "Nothing here is much like it";
      this.message.append(make("div", { class: "nothing" }, make("h2", {}, what), make("p", {}, "Here is what is nearest.")));
      announce(`${what}. Here is what is nearest.`);
    } else {
      const good = answer.hits.filter((hit) => hit.relevance === null || answer.threshold === null || hit.relevance >= answer.threshold).length;
      announce(good < answer.hits.length ? count(good, "match", "matches") : `${good} matches or more`);
    }
    this.add(answer.hits);
  }

  add(hits) {
    this.session.hits.push(...hits);
    const { nothing_matches: nothing, threshold } = this.answer;
    for (const hit of hits) {
      const name = nothing ? "Nearest" : (band(hit.relevance, threshold) ?? "Nearest first");
      if (this.grids.at(-1)?.name !== name) {
        const grid = new Grid(name, (like) => this.like(like));
        const heading = make("h2", { class: "band" }, name);
        this.grids.push({ name, grid, waiting: [] });
        this.results.append(make("section", { class: name === PROBABLY_NOT ? "faint" : "" }, nothing ? null : heading, grid.list));
      }
      this.grids.at(-1).waiting.push(hit);
    }
    for (const each of this.grids) each.grid.add(each.waiting.splice(0));
    this.done = hits.length < PAGE;
    this.end.textContent = this.done && this.session.hits.length > 12 ? `That is all: ${count(this.session.hits.length, "picture")}.` : "";
    // An observer only tells of changes: where the end is still near, it is asked again.
    this.watcher.unobserve(this.end);
    this.watcher.observe(this.end);
  }

  async more() {
    if (this.done || !this.element.isConnected) return;
    this.done = true;
    const { signal } = this.running;
    try {
      const answer = await ask("/v1/search", { ...this.question(), offset: this.session.hits.length }, signal);
      if (!signal.aborted) this.add(answer.hits);
    } catch (error) {
      if (error.name !== "AbortError") this.end.textContent = error.message;
    }
  }

  clear() {
    for (const { grid } of this.grids) grid.close();
    this.grids = [];
    this.results.replaceChildren();
    this.message.replaceChildren();
    this.end.textContent = "";
    this.element.classList.remove("busy");
  }

  say(text) {
    this.message.replaceChildren(make("p", { class: "message", role: "status" }, text));
  }

  complain(error) {
    const again = make("button", { type: "button", onclick: () => this.refresh() }, "Try again");
    this.message.replaceChildren(make("div", { class: "message wrong", role: "alert" }, make("strong", {}, error.title ?? "That did not work"), make("p", {}, error.message), again));
  }

  open() {
    this.moved();
    if (!matchMedia("(pointer: coarse)").matches) this.words.focus();
  }

  close() {
    this.soon.cancel();
  }
}
