// How well sentences fit the photo, as CLIPScore: those that were typed, the best first.
import { ask } from "./api.js";
import { announce, make } from "./dom.js";

const MOST = 8; // sentences
const MEANING = "CLIPScore: 2.5 times the cosine, and 0 below it. Compare sentences for one photo, of one model; alone a figure says little.";

export class SentenceScores {
  /** `asked()` gives what is scored: { id, collection }, or null. */
  constructor(asked) {
    this.asked = asked;
    this.sentences = []; // kept from photo to photo
    this.input = make("input", { id: "score-sentence", type: "text", autocomplete: "off", placeholder: "a cat asleep on a red sofa", maxlength: 400 });
    this.list = make("ol", { class: "scored" });
    this.said = make("p", { class: "bars-said", role: "status" });
    this.element = make(
      "form",
      { class: "scores field", onsubmit: (event) => { event.preventDefault(); this.add(); } },
      make("h3", {}, "How well does a sentence fit?"),
      make("label", { for: "score-sentence" }, "A sentence about the photo"),
      make("div", { class: "correction-row" }, this.input, make("button", { class: "button", type: "submit" }, "Score")),
      this.list,
      this.said,
    );
  }

  /** Another photo: the sentences are scored for it. */
  show() {
    this.request?.abort();
    this.list.replaceChildren();
    this.say("");
    if (this.sentences.length) this.score();
  }

  add() {
    const sentence = this.input.value.trim();
    if (!sentence) return this.say("Type a sentence.", true);
    this.sentences = [...new Set([sentence, ...this.sentences])].slice(0, MOST);
    this.input.value = "";
    return this.score(sentence);
  }

  say(text, wrong = false) {
    this.said.textContent = text;
    this.said.classList.toggle("wrong", wrong);
  }

  async score(latest = null) {
    const what = this.asked();
    if (!what) return;
    this.request?.abort();
    const request = (this.request = new AbortController());
    const prompts = this.sentences;
    try {
      const { results } = await ask("/v1/score", { ids: prompts.map(() => what.id), prompts, collection: what.collection }, request.signal);
      if (request.signal.aborted) return;
      results.sort((one, other) => other.clip_score - one.clip_score);
      this.list.replaceChildren(...results.map((row) => make("li", {}, make("span", {}, row.prompt), make("span", { class: "number" }, row.clip_score.toFixed(2)))));
      const cut = results.find((row) => row.cut_tokens > 0);
      this.say(cut ? `The end of “${cut.prompt.slice(0, 24)}…” was not read: it is longer than what the model takes. ${MEANING}` : MEANING);
      const typed = results.find((row) => row.prompt === latest);
      if (typed) announce(`${typed.prompt}: ${typed.clip_score.toFixed(2)}`);
    } catch (error) {
      if (error.name !== "AbortError") this.say(error.message, true);
    }
  }
}
