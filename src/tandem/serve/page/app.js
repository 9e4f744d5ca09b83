// Joins the views: which one is shown, what all of them know of the server, and where a picture goes that is dropped.
import { ask, askPatiently } from "./api.js";
import { go, here, link, onMove } from "./address.js";
import { Classify } from "./classify.js";
import { make } from "./elements.js";
import { watchForPictures } from "./incoming.js";
import { CollectionMap } from "./map.js";
import { PictureDialog } from "./picture.js";
import { Search } from "./search.js";
import { count } from "./wording.js";

const VIEWS = { search: Search, map: CollectionMap, classify: Classify };
const main = document.getElementById("main");

// What the views share: the collection that is looked at, the hits of the last search, and the map, fetched once.
const session = {
  collection: null,
  count: null,
  hits: [],
  query: null,
  threshold: null,
  map(whileWaiting) {
    const inside = this.collection ? `?collection=${encodeURIComponent(this.collection)}` : "";
    this.mapped ??= askPatiently(`/v1/map${inside}`, undefined, () => this.waiting?.());
    this.waiting = whileWaiting;
    this.mapped.catch(() => { this.mapped = null; });
    return this.mapped;
  },
};

let views = {};
let current = null;
let dialog = null;

function moved() {
  const { view } = here();
  views[view] ??= new VIEWS[view](session);
  if (current !== views[view]) {
    current?.close();
    current = views[view];
    main.replaceChildren(current.element);
    document.body.dataset.view = view;
    for (const each of document.querySelectorAll("nav a")) {
      if (each.dataset.view === view) each.setAttribute("aria-current", "page");
      else each.removeAttribute("aria-current");
    }
    current.open();
  } else {
    current.moved();
  }
  dialog.moved();
}

/** A link within the page is a step here, not a load. */
function followed(event) {
  const anchor = event.target.closest?.("a[href^='#/']");
  if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(anchor.getAttribute("href"));
}

function taken(file) {
  if (dialog.element.open) dialog.leave();
  if (!current.take) go(link("search", {}));
  current.take(file);
}

function shelf(collections) {
  const described = (each) => `${each.name} · ${each.count.toLocaleString("en")}`;
  const chosen = collections.find((each) => each.name === session.collection) ?? collections[0];
  if (!chosen) return [make("span", {}, "no collection")];
  session.collection = collections.length > 1 ? chosen.name : null;
  session.count = chosen.count;
  if (collections.length === 1) return [make("span", { title: chosen.model ?? null }, `${chosen.name} · ${count(chosen.count, "picture")}`)];
  const options = collections.map((each) => make("option", { value: each.name, selected: each === chosen }, described(each)));
  return [make("select", { "aria-label": "Collection", onchange: (event) => choose(event.target.value, collections) }, options)];
}

function choose(name, collections) {
  Object.assign(session, { collection: name, mapped: null, hits: [] });
  document.getElementById("collection").replaceChildren(...shelf(collections));
  current?.close();
  [views, current] = [{}, null];
  history.replaceState(null, "", link(here().view, { q: here().values.q }));
  moved();
}

async function begin() {
  dialog = new PictureDialog(session);
  onMove(moved);
  document.addEventListener("click", followed);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    (main.querySelector(".grid a, .strip a, canvas") ?? main).focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, select, textarea") || dialog.element.open) return;
    event.preventDefault();
    go("#/");
    document.getElementById("words")?.focus();
  });
  watchForPictures(taken);
  try {
    const { collections } = await ask("/v1/collections");
    document.getElementById("collection").replaceChildren(...shelf(collections));
  } catch (error) {
    document.getElementById("collection").replaceChildren(make("span", { class: "wrong" }, error.message));
  }
  moved();
}

begin();
