// Where the reader is, kept behind the # of the address: a view and what it shows. Reload and Back just work.

/** `#/map?picture=abc` -> { view: "map", values: { picture: "abc" } }; the bare address is the search. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { view: ["map", "classify"].includes(path) ? path : "search", values: Object.fromEntries(new URLSearchParams(query)) };
}

export function link(view, values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  return `#/${view === "search" ? "" : view}${query ? `?${query}` : ""}`;
}

/** The address of a view that looks at the same collection. */
export const linkHere = (view, values = {}) => link(view, { in: here().values.in, ...values });

/** The address of this view with some values changed. */
export function linkWith(changes) {
  const { view, values } = here();
  return link(view, { ...values, ...changes });
}

/** Go there. `replace`: without a step of its own for Back, as while someone types. Listeners hear of it either way. */
export function go(address, { replace = false } = {}) {
  if (address === location.hash || (address === "#/" && location.hash === "")) return;
  if (replace) history.replaceState(history.state, "", address);
  else history.pushState({ isStep: true }, "", address);
  dispatchEvent(new Event("tandem:address"));
}

/** Leave what a step led to: the same as Back where the reader came by one, so that Back does not lead into it again. */
export function leaveFor(address) {
  if (history.state?.isStep) history.back();
  else go(address, { replace: true });
}

export function onMove(listener) {
  addEventListener("tandem:address", listener);
  addEventListener("popstate", listener);
}
