// Pictures of the reader's own that are searched by: in this tab's memory, by a number that stands in the address.
const kept = new Map(); // number -> { uri, name }
const MOST_KEPT = 12; // for steps back; each may be megabytes

/** Its number in the address. */
export function keepOwn(picture) {
  const number = String(Date.now());
  kept.set(number, picture);
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  return number;
}

/** { uri, name }, or undefined after the page was loaded anew. */
export const ownPicture = (number) => kept.get(number);
