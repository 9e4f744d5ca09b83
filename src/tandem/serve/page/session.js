// What the views share: which collection is looked at, the hits of the last search, the map. Hears of changes by asking.
import { ask, askPatiently } from "./api.js";

const ASK_AGAIN_MS = 15_000;

export class Session extends EventTarget {
  collections = []; // as the server describes them, the default one first
  hits = [];
  query = null;
  threshold = null;
  wrong = null; // why the server could not be asked

  /** The one that is looked at, described; null where there is none. */
  get chosen() {
    return this.collections.find((each) => each.name === this.name) ?? this.collections[0] ?? null;
  }

  /** Its name in requests; null where there is no choice. */
  get collection() {
    return this.collections.length > 1 ? this.chosen.name : null;
  }

  get count() {
    return this.chosen?.count ?? null;
  }

  /** Look at another collection. Whether it is another one. */
  choose(name) {
    const before = this.chosen;
    this.name = name;
    if (this.chosen === before) return false;
    this.forget();
    return true;
  }

  forget() {
    Object.assign(this, { hits: [], query: null, threshold: null, mapped: null });
  }

  /** Ask what there is. Dispatches "described", and "changed" where the collection that is looked at has grown or shrunk. */
  async describe() {
    const before = this.chosen;
    const wasWrong = this.wrong;
    try {
      this.collections = (await ask("/v1/collections")).data;
      this.wrong = null;
    } catch (error) {
      this.wrong = error.message;
    }
    if (this.wrong !== wasWrong || JSON.stringify(before) !== JSON.stringify(this.chosen)) this.dispatchEvent(new Event("described"));
    const now = this.chosen;
    if (before && now?.name === before.name && (now.count !== before.count || now.fingerprint !== before.fingerprint)) {
      this.mapped = null;
      this.dispatchEvent(new Event("changed"));
    }
  }

  /** Ask every now and then, and when the reader comes back to this tab. */
  watch() {
    const asked = () => document.visibilityState === "visible" && this.describe();
    setInterval(asked, ASK_AGAIN_MS);
    addEventListener("visibilitychange", asked);
    addEventListener("online", asked);
  }

  /** The map of the collection, fetched once. `whileWaiting` is called while the server lays it out. */
  map(whileWaiting) {
    const inside = this.collection ? `?collection=${encodeURIComponent(this.collection)}` : "";
    this.waiting = whileWaiting;
    if (!this.mapped) {
      const asked = (this.mapped = askPatiently(`/v1/map${inside}`, undefined, () => this.waiting?.()));
      asked.catch(() => { if (this.mapped === asked) this.mapped = null; });
    }
    return this.mapped;
  }
}
