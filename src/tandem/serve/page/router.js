// The route, behind the # of the URL: a view and what it shows. Reload, Back and links work.

/** `#/map?image=abc` -> { view: "map", values: { image: "abc" } }; an empty one is the search. */
export function currentRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { view: ["map", "classify"].includes(path) ? path : "search", values: Object.fromEntries(new URLSearchParams(query)) };
}

export function link(view, values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  return `#/${view === "search" ? "" : view}${query ? `?${query}` : ""}`;
}

/** The URL of a view of the same collection. */
export const linkHere = (view, values = {}) => link(view, { in: currentRoute().values.in, ...values });

/** The URL of this view with some values changed. */
export function linkWith(changes) {
  const { view, values } = currentRoute();
  return link(view, { ...values, ...changes });
}

/** Change the route. `replace`: without an entry in the history, as while the user types. Listeners are called either way. */
export function go(address, { replace = false } = {}) {
  if (address === location.hash || (address === "#/" && location.hash === "")) return;
  if (replace) history.replaceState(history.state, "", address);
  else history.pushState({ isStep: true }, "", address);
  dispatchEvent(new Event("tandem:route"));
}

let isGoingBack = false; // the browser takes its time

/** Close what a step opened: Back if the user came by one, so that Back does not open it again. Asked twice, it goes back once. */
export function leaveFor(address) {
  if (isGoingBack) return;
  isGoingBack = Boolean(history.state?.isStep);
  if (isGoingBack) history.back();
  else go(address, { replace: true });
}

addEventListener("popstate", () => { isGoingBack = false; });

export function onRouteChange(listener) {
  addEventListener("tandem:route", listener);
  addEventListener("popstate", listener);
}
