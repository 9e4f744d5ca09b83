// Joins the views: shows one of them, gives all of them the session, and passes dropped images to them.
import { go, currentRoute, linkHere, linkWith, onRouteChange } from "./router.js";
import { Classify } from "./classify.js";
import { announce } from "./dom.js";
import { Help } from "./help.js";
import { watchForImages } from "./drop_paste.js";
import { CollectionMap } from "./map.js";
import { ImageDialog } from "./image.js";
import { Search } from "./search.js";
import { Session } from "./session.js";
import { showCollectionPicker } from "./collection_picker.js";

const VIEWS = { search: Search, map: CollectionMap, classify: Classify };
const main = document.getElementById("main");
const session = new Session();

let views = {};
let current = null;
let dialog = null;
let help = null;

/** `event` tells how the route changed: a step back is not a new search. */
function routeChanged(event) {
  const { view, values } = currentRoute();
  if (session.choose(values.in)) {
    leave();
    views = {};
    session.dispatchEvent(new Event("chosen"));
    announce(`${session.chosen.name}, ${session.size}`);
  }
  views[view] ??= new VIEWS[view](session);
  if (current !== views[view]) {
    leave();
    current = views[view];
    main.replaceChildren(current.element);
    document.body.dataset.view = view;
    for (const each of document.querySelectorAll("nav a")) {
      each.setAttribute("href", linkHere(each.dataset.view));
      if (each.dataset.view === view) each.setAttribute("aria-current", "page");
      else each.removeAttribute("aria-current");
    }
    document.querySelector(".brand").setAttribute("href", linkHere("search"));
    current.open();
    scrollTo({ top: current.scrolled ?? 0 });
  } else {
    current.routeChanged(event?.type === "popstate");
  }
  dialog.routeChanged();
}

function leave() {
  if (!current) return;
  current.scrolled = scrollY;
  current.close();
  current = null;
}

/** Links within the page change the route without loading the page. */
function followed(event) {
  const anchor = event.target.closest?.("a[href^='#/']");
  if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(anchor.getAttribute("href"));
}

function taken(image) {
  help.close();
  if (dialog.element.open) go(linkWith({ image: "" }), { replace: true });
  if (!current.take) go(linkHere("search"));
  current.take(image);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "?") {
    event.preventDefault();
    help.open();
  } else if (event.key === "/" && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    if (currentRoute().view !== "search") go(linkHere("search"));
    document.getElementById("text").select();
  }
}

/** The collection has grown or shrunk while the page is open: views are refreshed when they are next shown. */
function changed() {
  announce(`The collection changed: ${session.size} now`);
  for (const [name, view] of Object.entries(views)) {
    if (view.stale) view.stale();
    else if (name === "map" && view !== current) delete views.map;
  }
}

async function begin() {
  history.scrollRestoration = "manual"; // the views know what they showed, and where
  help = new Help();
  dialog = new ImageDialog(session, (id) => current.focus?.(id));
  document.getElementById("help").addEventListener("click", () => help.open());
  document.addEventListener("click", followed);
  document.addEventListener("keydown", pressed);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    (main.querySelector(".grid a, .strip a, canvas") ?? main).focus();
  });
  watchForImages(taken);
  session.name = currentRoute().values.in;
  await session.describe();
  showCollectionPicker(document.getElementById("collection"), session);
  session.addEventListener("changed", changed);
  session.addEventListener("described", () => current?.described?.());
  session.watch();
  onRouteChange(routeChanged);
  routeChanged();
}

begin();
