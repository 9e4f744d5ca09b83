// State that the views share: the collection, the hits of the last search, the map. Polls the server for changes.
import { ask, askPatiently } from "./api.js";
import { keep, kept } from "./browser_storage.js";
import { count } from "./format.js";

const ASK_AGAIN_MS = 15_000;
const RELEVANCE = "tandem-relevance";

export class Session extends EventTarget {
  collections = []; // as the server describes them, the default one first
  hits = [];
  query = null;
  threshold = null;
  wrong = null; // why the server could not be reached
  relevance = kept(RELEVANCE) === "shown"; // whether percentages are shown with hits

  /** The chosen collection as the server describes it; null if there is none. */
  get chosen() {
    return this.collections.find((each) => each.name === this.name) ?? this.collections[0] ?? null;
  }

  /** Its name for requests; null if there is no choice. */
  get collection() {
    return this.collections.length > 1 ? this.chosen.name : null;
  }

  get count() {
    return this.chosen?.count ?? null;
  }

  /** The count as people read it. */
  get size() {
    return this.count === null ? "unavailable" : count(this.count, "photo");
  }

  /** Choose a collection. Whether it is another one than before. */
  choose(name) {
    const before = this.chosen;
    this.name = name;
    if (this.chosen === before) return false;
    this.forget();
    return true;
  }

  /** Show percentages with hits, here and the next time in this browser. */
  showRelevance(shown) {
    this.relevance = shown;
    keep(RELEVANCE, shown ? "shown" : "hidden");
  }

  forget() {
    Object.assign(this, { hits: [], query: null, threshold: null, mapped: null });
  }

  /** Fetch the collections. Dispatches "described", and "changed" if the chosen one has grown or shrunk. */
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

  /** Poll from time to time, and when the user comes back to this tab. */
  watch() {
    const asked = () => document.visibilityState === "visible" && this.describe();
    setInterval(asked, ASK_AGAIN_MS);
    addEventListener("visibilitychange", asked);
    addEventListener("online", asked);
  }

  /** The map of the collection, fetched once. `whileWaiting` is called while the server computes it. */
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
