// The collection in the bar at the top: its name and size, a choice if there are several, and whether the server answers.
import { go, currentRoute, link } from "./router.js";
import { make } from "./dom.js";

/** Keeps an element up to date with a session. */
export function showCollectionPicker(element, session) {
  const fill = () => {
    const { collections, chosen, wrong } = session;
    if (wrong) return element.replaceChildren(make("span", { class: "wrong", role: "alert" }, wrong), make("button", { type: "button", class: "again", onclick: () => session.describe() }, "Try again"));
    if (!chosen) return element.replaceChildren(make("span", {}, "no collection"));
    if (collections.length === 1) return element.replaceChildren(make("span", { title: chosen.reason ?? (chosen.model ? `Model: ${chosen.model}` : null) }, `${chosen.name} · ${session.size}`));
    const option = (each) => make("option", { value: each.name, selected: each === chosen, title: each.reason ?? null }, `${each.name} · ${each.count?.toLocaleString("en") ?? "unavailable"}`);
    element.replaceChildren(make("select", { "aria-label": "Collection", onchange: (event) => switchTo(event.target.value, collections) }, collections.map(option)));
  };
  session.addEventListener("described", fill);
  session.addEventListener("chosen", fill);
  fill();
}

/** The same search in another collection, without references to images of this one. */
function switchTo(name, collections) {
  const { view, values } = currentRoute();
  go(link(view, { ...values, like: "", image: "", in: name === collections[0].name ? "" : name }));
}
