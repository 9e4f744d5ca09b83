// In the bar at the top: which collection is looked at, a choice where there are several, and whether the server answers.
import { go, here, link } from "./address.js";
import { make } from "./elements.js";
import { count } from "./wording.js";

/** Keeps an element true to a session. */
export function showShelf(element, session) {
  const fill = () => {
    const { collections, chosen, wrong } = session;
    if (wrong) return element.replaceChildren(make("span", { class: "wrong", role: "alert" }, wrong), make("button", { type: "button", class: "again", onclick: () => session.describe() }, "Try again"));
    if (!chosen) return element.replaceChildren(make("span", {}, "no collection"));
    if (collections.length === 1) return element.replaceChildren(make("span", { title: chosen.model ? `Model: ${chosen.model}` : null }, `${chosen.name} · ${count(chosen.count, "picture")}`));
    const option = (each) => make("option", { value: each.name, selected: each === chosen }, `${each.name} · ${each.count.toLocaleString("en")}`);
    element.replaceChildren(make("select", { "aria-label": "Collection", onchange: (event) => turnTo(event.target.value, collections) }, collections.map(option)));
  };
  session.addEventListener("described", fill);
  session.addEventListener("chosen", fill);
  fill();
}

/** The same question of another collection: pictures of this one mean nothing there. */
function turnTo(name, collections) {
  const { view, values } = here();
  go(link(view, { ...values, like: "", picture: "", in: name === collections[0].name ? "" : name }));
}
