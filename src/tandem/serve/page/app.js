// Joins the views: which one is shown, what all of them know of the server, and where a picture goes that is dropped.
import { go, here, linkHere, linkWith, onMove } from "./address.js";
import { Classify } from "./classify.js";
import { announce } from "./elements.js";
import { Help } from "./help.js";
import { watchForPictures } from "./incoming.js";
import { CollectionMap } from "./map.js";
import { PictureDialog } from "./picture.js";
import { Search } from "./search.js";
import { Session } from "./session.js";
import { showShelf } from "./shelf.js";
import { count } from "./wording.js";

const VIEWS = { search: Search, map: CollectionMap, classify: Classify };
const main = document.getElementById("main");
const session = new Session();

let views = {};
let current = null;
let dialog = null;
let help = null;

/** `event` says how the reader came here: a step back is not a new question. */
function moved(event) {
  const { view, values } = here();
  if (session.choose(values.in)) {
    leave();
    views = {};
    session.dispatchEvent(new Event("chosen"));
    announce(`${session.chosen.name}, ${count(session.count, "picture")}`);
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
    current.moved(event?.type === "popstate");
  }
  dialog.moved();
}

function leave() {
  if (!current) return;
  current.scrolled = scrollY;
  current.close();
  current = null;
}

/** A link within the page is a step here, not a load. */
function followed(event) {
  const anchor = event.target.closest?.("a[href^='#/']");
  if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(anchor.getAttribute("href"));
}

function taken(picture) {
  help.close();
  if (dialog.element.open) go(linkWith({ picture: "" }), { replace: true });
  if (!current.take) go(linkHere("search"));
  current.take(picture);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "?") {
    event.preventDefault();
    help.open();
  } else if (event.key === "/" && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    if (here().view !== "search") go(linkHere("search"));
    document.getElementById("words").select();
  }
}

/** The collection has grown or shrunk while the page is open: what was drawn of it is drawn anew when next looked at. */
function changed() {
  announce(`The collection changed: ${count(session.count, "picture")} now`);
  for (const [name, view] of Object.entries(views)) {
    if (view.stale) view.stale();
    else if (name === "map" && view !== current) delete views.map;
  }
}

async function begin() {
  history.scrollRestoration = "manual"; // the views know what they showed, and where
  help = new Help();
  dialog = new PictureDialog(session, (id) => current.focus?.(id));
  document.getElementById("help").addEventListener("click", () => help.open());
  document.addEventListener("click", followed);
  document.addEventListener("keydown", pressed);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    (main.querySelector(".grid a, .strip a, canvas") ?? main).focus();
  });
  watchForPictures(taken);
  session.name = here().values.in;
  await session.describe();
  showShelf(document.getElementById("collection"), session);
  session.addEventListener("changed", changed);
  session.addEventListener("described", () => current?.described?.());
  session.watch();
  onMove(moved);
  moved();
}

begin();
