// The search: words, a picture, or both, and filters. What is asked stands in the address; what is found, in results.js.
import { show, thumbnailPath } from "./api.js";
import { go, here, link, linkHere } from "./address.js";
import { icon, later, make } from "./elements.js";
import { FILTER_NAMES, filterChips, filterForm, filtersIn, whereOf } from "./filters.js";
import { readPicture } from "./incoming.js";
import { keepOwn, ownPicture } from "./own.js";
import { Results } from "./results.js";
import { Welcome } from "./welcome.js";
import { fileName } from "./wording.js";

const TYPING_MS = 140;
const EVEN = "50"; // words and picture count alike

export class Search {
  constructor(session) {
    this.session = session;
    this.asked = "";
    this.soon = later(() => this.write({ q: this.words.value.trim() }, true), TYPING_MS);
    this.build();
  }

  build() {
    this.words = make("input", {
      type: "search", id: "words", placeholder: "Describe a picture…", "aria-label": "Search for", autocomplete: "off", enterkeyhint: "search",
      maxlength: 1000, oninput: () => this.soon(),
    });
    this.file = make("input", { type: "file", accept: "image/*", hidden: true, onchange: () => this.file.files[0] && this.take({ file: this.file.files[0] }) });
    const choose = make("button", { type: "button", class: "quiet", "aria-label": "Search by a picture", title: "Search by a picture: choose, drop or paste one", onclick: () => this.file.click() }, icon("picture"));
    [this.form, this.fillForm] = filterForm((change) => this.write(change));
    this.filterButton = make("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": "filters", "aria-label": "Filters", title: "Filters", onclick: () => this.openFilters(this.form.hidden) }, icon("filter"));
    const box = make("form", { class: "search-box", role: "search", onsubmit: (event) => this.submitted(event) }, icon("search"), this.words, choose, this.file, this.filterButton);
    this.balance = make("input", { type: "range", min: 0, max: 100, step: 5, value: EVEN, id: "balance", "aria-label": "How much the words count beside the picture", oninput: later(() => this.write({ weight: this.balance.value === EVEN ? "" : this.balance.value }, true), 80) });
    this.balancing = make("div", { class: "balance", hidden: true }, make("span", { "aria-hidden": "true" }, "Picture"), this.balance, make("span", { "aria-hidden": "true" }, "Words"));
    this.pictureChip = make("div", { class: "chip asked-picture", hidden: true });
    this.chips = make("div", { class: "asked" }, this.pictureChip, this.balancing);
    this.welcome = new Welcome(this.session, (words) => this.write({ q: words }));
    this.results = new Results(this.session, (hit) => this.like(hit.id));
    this.element = make("section", { class: "search", "aria-label": "Search" }, make("h1", { class: "unseen" }, "Search"), make("div", { class: "search-top" }, box, this.form, this.chips), this.results.message, this.welcome.element, this.results.element);
  }

  submitted(event) {
    event.preventDefault();
    this.soon.cancel();
    this.write({ q: this.words.value.trim() });
    if (matchMedia("(pointer: coarse)").matches) this.words.blur(); // the keyboard on the screen gives way to what was found
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

  /** A picture that was handed over, as incoming.js tells it. */
  async take({ file, note, like, refused }) {
    this.file.value = "";
    if (like) return this.like(like);
    try {
      if (refused) throw new Error(refused);
      const own = keepOwn(await readPicture(file));
      this.write({ like: "", own });
      if (note) this.results.say(note);
    } catch (error) {
      this.results.complain(error);
    }
  }

  dropPicture() {
    this.write({ like: "", own: "", weight: "" });
    this.words.focus();
  }

  like(id) {
    this.soon.cancel();
    go(linkHere("search", { ...filtersIn(here().values), like: id }));
    scrollTo({ top: 0 });
    this.words.focus({ preventScroll: true });
  }

  /** The address changed: ask if something else is asked now. `back`: the reader came back to it. */
  moved(back = false) {
    const { values } = here();
    // What is being typed is newer than the address.
    if (!this.soon.pending() && this.words.value.trim() !== (values.q ?? "")) this.words.value = values.q ?? "";
    this.filters = filtersIn(values);
    this.fillForm(this.filters);
    if (values.where && this.form.hidden) {
      this.form.hidden = false;
      this.filterButton.setAttribute("aria-expanded", "true");
    }
    const set = Object.keys(this.filters).length;
    this.chips.replaceChildren(this.pictureChip, this.balancing, ...(set ? [filterChips(this.filters, (change) => this.write(change))] : []));
    this.filterButton.classList.toggle("on", set > 0);
    this.showPicture(values);
    const asked = JSON.stringify(["q", "like", "own", "weight", ...FILTER_NAMES].map((name) => values[name] || null));
    if (asked !== this.asked) {
      this.asked = asked;
      this.ask(back);
    }
  }

  showPicture({ like, own, q, weight }) {
    const mine = own && ownPicture(own);
    const is = like || mine ? (like ?? own) : null;
    this.pictureChip.hidden = !is;
    this.balancing.hidden = !(is && q);
    if (this.balance !== document.activeElement) this.balance.value = weight || EVEN;
    if (this.shownPicture === is) return;
    this.shownPicture = is;
    if (!is) return;
    const path = this.session.hits.find(({ id }) => id === like)?.path;
    const name = mine ? mine.name : path ? fileName(path) : "this picture";
    const image = make("img", { alt: "" });
    if (mine) image.src = mine.uri;
    else show(image, thumbnailPath(like, this.session.collection));
    image.onerror = () => image.remove(); // a format that only the server reads
    this.pictureChip.replaceChildren(image, make("span", {}, `Like ${name}`), make("button", { type: "button", "aria-label": "Remove the picture", onclick: () => this.dropPicture() }, icon("close")));
  }

  question() {
    const { values } = here();
    const asked = { where: whereOf(this.filters), collection: this.session.collection };
    if (values.q) asked.text = values.q;
    if (values.like) asked.like = values.like;
    else if (values.own) asked.image = ownPicture(values.own)?.uri;
    if (asked.text && (asked.like || asked.image)) asked.weight = Number(values.weight || EVEN) / 100;
    return asked;
  }

  ask(back = false) {
    const asked = this.question();
    const isAsked = Boolean(asked.text || asked.like || asked.image);
    document.title = !isAsked ? "Tandem" : `${asked.text ?? "By picture"} · Tandem`;
    if (isAsked) {
      this.welcome.hide();
      this.results.show(asked, this.asked, { back });
      return;
    }
    this.results.leave();
    this.welcome.show();
    if (here().values.own) this.results.say("That picture was only in the page's memory, and is gone. Drop it again to search by it.");
    else if (Object.keys(this.filters).length) this.results.say("Filters narrow a search: say what to look for.");
  }

  /** The collection changed. What is shown stays where it is, and is asked anew next time. */
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
    this.moved();
    if (!matchMedia("(pointer: coarse)").matches) this.words.focus({ preventScroll: true });
  }

  close() {
    this.soon.cancel();
  }
}
