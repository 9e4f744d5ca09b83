// The search by text, by an image, or by both, with filters. The query is in the route; the hits are in results.js.
import { show, thumbnailPath } from "./api.js";
import { go, currentRoute, link, linkHere } from "./router.js";
import { icon, later, make } from "./dom.js";
import { FILTER_NAMES, filterChips, filterForm, filtersIn, whereOf } from "./filters.js";
import { readImage } from "./drop_paste.js";
import { keepLocal, localImage } from "./local_images.js";
import { Results } from "./results.js";
import { Welcome } from "./welcome.js";
import { fileName } from "./format.js";

const TYPING_MS = 140;
const EVEN = "50"; // text and image have equal weight

export class Search {
  constructor(session) {
    this.session = session;
    this.asked = "";
    this.soon = later(() => this.write({ q: this.text.value.trim() }, true), TYPING_MS);
    this.build();
  }

  build() {
    this.text = make("input", {
      type: "search", id: "text", placeholder: "Describe a photo…", "aria-label": "Search for", autocomplete: "off", enterkeyhint: "search",
      maxlength: 1000, oninput: () => this.soon(),
    });
    this.file = make("input", { type: "file", accept: "image/*", hidden: true, onchange: () => this.file.files[0] && this.take({ file: this.file.files[0] }) });
    const choose = make("button", { type: "button", class: "quiet", "aria-label": "Search by photo", title: "Search by photo: choose, drop or paste one", onclick: () => this.file.click() }, icon("image"));
    [this.form, this.fillForm] = filterForm((change) => this.write(change));
    this.filterButton = make("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": "filters", "aria-label": "Filters", title: "Filters", onclick: () => this.openFilters(this.form.hidden) }, icon("filter"));
    const box = make("form", { class: "search-box", role: "search", onsubmit: (event) => this.submitted(event) }, icon("search"), this.text, choose, this.file, this.filterButton);
    this.balance = make("input", { type: "range", min: 0, max: 100, step: 5, value: EVEN, id: "balance", "aria-label": "Weight of the text beside the photo", oninput: later(() => this.write({ weight: this.balance.value === EVEN ? "" : this.balance.value }, true), 80) });
    this.balancing = make("div", { class: "balance", hidden: true }, make("span", { "aria-hidden": "true" }, "Photo"), this.balance, make("span", { "aria-hidden": "true" }, "Text"));
    this.imageChip = make("div", { class: "chip query-image", hidden: true });
    this.chips = make("div", { class: "asked" }, this.imageChip, this.balancing);
    this.welcome = new Welcome(this.session, (text) => this.write({ q: text }));
    this.results = new Results(this.session, (hit) => this.like(hit.id));
    this.element = make("section", { class: "search", "aria-label": "Search" }, make("h1", { class: "unseen" }, "Search"), make("div", { class: "search-top" }, box, this.form, this.chips), this.results.message, this.welcome.element, this.results.element);
  }

  submitted(event) {
    event.preventDefault();
    this.soon.cancel();
    this.write({ q: this.text.value.trim() });
    if (matchMedia("(pointer: coarse)").matches) this.text.blur(); // hides the on-screen keyboard
  }

  openFilters(open) {
    this.form.hidden = !open;
    this.filterButton.setAttribute("aria-expanded", String(open));
    if (open) this.form.elements[0].focus();
  }

  /** Change the query in the route; `routeChanged` follows it. */
  write(change, replace = false) {
    const { values } = currentRoute();
    go(link("search", { ...values, image: "", ...change }), { replace });
  }

  /** Use an image that was dropped or pasted; see imageFrom in drop_paste.js. */
  async take({ file, note, like, refused }) {
    this.file.value = "";
    if (like) return this.like(like);
    try {
      if (refused) throw new Error(refused);
      const local = keepLocal(await readImage(file));
      this.note = note; // stands above the answer, which would replace it otherwise
      this.write({ like: "", local });
    } catch (error) {
      this.results.complain(error);
    }
  }

  dropImage() {
    this.write({ like: "", local: "", weight: "" });
    this.text.focus();
  }

  like(id) {
    this.soon.cancel();
    go(linkHere("search", { ...filtersIn(currentRoute().values), like: id }));
    scrollTo({ top: 0 });
    this.text.focus({ preventScroll: true });
  }

  /** The route changed: search if the query is another one. `back`: the user came back to it. */
  routeChanged(back = false) {
    const { values } = currentRoute();
    // Text that is being typed is newer than the route.
    if (!this.soon.pending() && this.text.value.trim() !== (values.q ?? "")) this.text.value = values.q ?? "";
    this.filters = filtersIn(values);
    this.fillForm(this.filters);
    if (values.where && this.form.hidden) {
      this.form.hidden = false;
      this.filterButton.setAttribute("aria-expanded", "true");
    }
    const set = Object.keys(this.filters).length;
    this.chips.replaceChildren(this.imageChip, this.balancing, ...(set ? [filterChips(this.filters, (change) => this.write(change))] : []));
    this.filterButton.classList.toggle("on", set > 0);
    this.showQueryImage(values);
    const asked = JSON.stringify(["q", "like", "local", "weight", ...FILTER_NAMES].map((name) => values[name] || null));
    if (asked !== this.asked) {
      this.asked = asked;
      this.ask(back);
    }
  }

  showQueryImage({ like, local, q, weight }) {
    const mine = local && localImage(local);
    const is = like || mine ? (like ?? local) : null;
    this.imageChip.hidden = !is;
    this.balancing.hidden = !(is && q);
    if (this.balance !== document.activeElement) this.balance.value = weight || EVEN;
    if (this.shownImage === is) return;
    this.shownImage = is;
    if (!is) return;
    const path = this.session.hits.find(({ id }) => id === like)?.path;
    const name = mine ? mine.name : path ? fileName(path) : "this photo";
    const image = make("img", { alt: "" });
    if (mine) image.src = mine.uri;
    else show(image, thumbnailPath(like, this.session.collection));
    image.onerror = () => image.remove(); // a format that only the server can read
    this.imageChip.replaceChildren(image, make("span", {}, `Like ${name}`), make("button", { type: "button", "aria-label": "Remove the photo", onclick: () => this.dropImage() }, icon("close")));
  }

  question() {
    const { values } = currentRoute();
    const asked = { where: whereOf(this.filters), collection: this.session.collection };
    if (values.q) asked.text = values.q;
    if (values.like) asked.like = values.like;
    else if (values.local) asked.image = localImage(values.local)?.uri;
    if (asked.text && (asked.like || asked.image)) asked.weight = Number(values.weight || EVEN) / 100;
    return asked;
  }

  ask(back = false) {
    const asked = this.question();
    const isAsked = Boolean(asked.text || asked.like || asked.image);
    document.title = !isAsked ? "Tandem" : `${asked.text ?? "By photo"} · Tandem`;
    if (isAsked) {
      this.welcome.hide();
      this.results.show(asked, this.asked, { back, note: this.note, typed: this.filters.where });
      this.note = null;
      return;
    }
    this.results.leave();
    this.welcome.show();
    if (currentRoute().values.local) this.results.say("That photo was only in the memory of this page and is gone. Drop it again to search by it.");
    else if (Object.keys(this.filters).length) this.results.say("Filters narrow a search: describe what to look for.");
  }

  /** The collection changed. Shown hits stay; the next search is a new one. */
  stale() {
    this.results.remembered.clear();
    this.welcome.stale();
  }

  described() {
    if (!this.welcome.element.hidden) this.welcome.show();
  }

  focus(id) {
    return this.results.focus(id);
  }

  open() {
    this.routeChanged();
    if (!matchMedia("(pointer: coarse)").matches) this.text.focus({ preventScroll: true });
  }

  close() {
    this.soon.cancel();
  }
}
