// Images of the user that are searched by: held in this tab's memory, and numbered in the route.
const kept = new Map(); // number -> { uri, name }
const MAX_CACHED = 12; // for going back; each may take megabytes

/** Its number for the route. */
export function keepLocal(image) {
  const number = String(Date.now());
  kept.set(number, image);
  if (kept.size > MAX_CACHED) kept.delete(kept.keys().next().value);
  return number;
}

/** { uri, name }, or undefined after the page was reloaded. */
export const localImage = (number) => kept.get(number);
