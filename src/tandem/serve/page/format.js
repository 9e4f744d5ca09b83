// Numbers, dates and sizes as people read them.

/** 0.874 -> "87%", 0.004 -> "<1%". */
export function percent(share) {
  if (share < 0.005) return "<1%";
  if (share > 0.995 && share < 1) return ">99%";
  return `${Math.round(share * 100)}%`;
}

/** What a group of the map is called; few have a name where the model tells words apart poorly. */
export const groupName = ({ name }) => name ?? "Unnamed group";

export const PROBABLY_NOT = "Probably not";

/** The name of a relevance; below `threshold` the server says that nothing matches. */
export function band(relevance, threshold) {
  if (relevance === null || relevance === undefined) return null;
  if (threshold !== null && relevance < threshold) return PROBABLY_NOT;
  if (relevance >= 0.8) return "Very likely";
  if (relevance >= 0.5) return "Likely";
  return relevance >= 0.1 ? "Perhaps" : "Less likely";
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** Seconds of a film -> "0:01:23". */
export function clock(time) {
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  return `${Math.floor(time / 3600)}:${two((time / 60) % 60)}:${two(time % 60)}`;
}

/** The name of a file; of a moment of a film "film.mp4 @ 0:01:23". */
export function fileName(path) {
  const found = /^(.*\.\w+)#t=(\d+\.\d{3})$/s.exec(path || "");
  if (found) return `${fileName(found[1])} @ ${clock(Number(found[2]))}`;
  const parts = (path || "").split(/[\\/]/).filter(Boolean);
  return parts.at(-1) || "photo";
}

export function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

export function pixels(width, height) {
  const millions = (width * height) / 1e6;
  return `${width} × ${height}` + (millions >= 1 ? ` (${millions.toFixed(1)} megapixels)` : "");
}

/** An ISO 8601 time, in its own time zone. */
export function moment(text) {
  const found = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d))?/.exec(text);
  if (!found) return text;
  const [year, month, day] = found[1].split("-").map(Number);
  const date = new Date(Date.UTC(year, month - 1, day));
  const written = date.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
  return found[2] ? `${written}, ${found[2]}` : written;
}

export function place(latitude, longitude) {
  const north = `${Math.abs(latitude).toFixed(4)}° ${latitude < 0 ? "S" : "N"}`;
  return `${north}, ${Math.abs(longitude).toFixed(4)}° ${longitude < 0 ? "W" : "E"}`;
}
