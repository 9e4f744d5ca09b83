// What is kept in this browser from one visit to the next. A browser may keep nothing.

/** The text kept under a name; null if there is none. */
export function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function keep(name, text) {
  try {
    localStorage.setItem(name, text);
  } catch { /* a browser that keeps nothing */ }
}
