// Requests to the server: problem documents become errors; a key is asked for if the server wants one.
import { make } from "./dom.js";

const KEY = "tandem-key";
let asking = null; // one dialog for all refused requests

/** An error of the server or of the network: `message` is for people. */
export class Problem extends Error {
  constructor(title, detail, status = 0) {
    super(detail || title);
    this.title = title;
    this.status = status;
  }
}

function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

/** The response to a request; asks for a key on 401 and tries again. Throws `Problem`, or AbortError. */
export async function send(path, { body, signal, tries = 2 } = {}) {
  const sent = sessionStorage.getItem(KEY);
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("No answer", "The server does not answer. Is it still running?");
  }
  if (response.status === 401) {
    await response.text();
    if (sessionStorage.getItem(KEY) === sent) await askForKey(sent !== null);
    return send(path, { body, signal, tries });
  }
  if (response.status === 503 && tries > 0) {
    await response.text();
    const wait_s = Math.min(Number(response.headers.get("Retry-After")) || 1, 5);
    await new Promise((resolve) => setTimeout(resolve, wait_s * 1000));
    signal?.throwIfAborted();
    return send(path, { body, signal, tries: tries - 1 });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  try {
    const told = await response.json();
    return new Problem(told.title || response.statusText, told.detail, response.status);
  } catch {
    return new Problem("The server answered with an error", `It said ${response.status} ${response.statusText}`, response.status);
  }
}

/** The JSON document of a path: POST if there is a body. */
export async function ask(path, body, signal) {
  return (await send(path, { body, signal })).json();
}

/** Ask until the document is there: the server answers 202 while it computes. */
export async function askPatiently(path, signal, whileWaiting = () => {}) {
  for (;;) {
    const response = await send(path, { signal });
    if (response.status !== 202) return response.json();
    await response.text(); // an unread body keeps its connection busy
    whileWaiting();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    signal?.throwIfAborted();
  }
}

const place = (id, inside) => {
  const collection = inside ? `?collection=${encodeURIComponent(inside)}` : "";
  return (rest) => `/v1/images/${encodeURIComponent(id)}${rest}${collection}`;
};
export const thumbnailPath = (id, inside) => place(id, inside)("/thumbnail");
export const metadataPath = (id, inside) => place(id, inside)("");
export const originalPath = (id, inside) => place(id, inside)("/original");

/** Where a <video>, which sends no key, finds an original, and for how many seconds. */
export async function playable(id, inside) {
  if (sessionStorage.getItem(KEY) === null) return { url: originalPath(id, inside), lasts_s: Infinity };
  const { url, expires_in_s: seconds } = await ask(place(id, inside)("/link"));
  return { url, lasts_s: seconds ?? Infinity };
}

const kept = new Map(); // path -> promise of a blob's URL, for images that need a key
const MAX_CACHED = 2000;

/** A URL that an <img> can show. Without a key it is the path itself: the browser then loads lazily and caches. */
export async function imageUrl(path) {
  if (!sessionStorage.getItem(KEY)) return path;
  if (!kept.has(path)) {
    kept.set(path, send(path).then(async (response) => URL.createObjectURL(await response.blob())));
    kept.get(path).catch(() => kept.delete(path));
    if (kept.size > MAX_CACHED) {
      const [oldest, address] = kept.entries().next().value;
      kept.delete(oldest);
      address.then(URL.revokeObjectURL, () => {});
    }
  }
  return kept.get(path);
}

/** Let an <img> load a path, now or when it comes near the screen. */
export function show(image, path) {
  image.loading = "lazy";
  image.decoding = "async";
  image.addEventListener("load", () => image.classList.add("there"), { once: true });
  image.addEventListener("error", () => image.classList.add("missing"), { once: true });
  imageUrl(path).then(
    (address) => { image.src = address; },
    () => image.classList.add("missing"),
  );
  return image;
}

function askForKey(wasWrong) {
  asking ??= new Promise((resolve) => {
    const input = make("input", { type: "password", id: "key", autocomplete: "off", required: true, "aria-describedby": "key-why" });
    const dialog = make(
      "dialog",
      { class: "key", "aria-labelledby": "key-title" },
      make(
        "form",
        { method: "dialog" },
        make("h2", { id: "key-title" }, "This server needs a key"),
        make("p", { id: "key-why" }, wasWrong ? "That key was not accepted. Try another one." : "It is stored until this tab is closed."),
        make("label", { for: "key" }, "API key"),
        input,
        make("button", { class: "primary" }, "Continue"),
      ),
    );
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, input.value.trim());
      dialog.remove();
      asking = null;
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}
