// What the server's policies say of the photo: the band of each category, and what decided it. Hidden where there is none.
import { ask } from "./api.js";
import { announce, make } from "./dom.js";
import { percent } from "./format.js";

const UNFITTED = "No labelled photos were measured for this policy: it has no probability and no band. tandem moderate fit makes them.";

export class PolicyJudgements {
  /** `asked()` gives what is judged: { id, collection }, or null. */
  constructor(asked) {
    this.asked = asked;
    this.policies = null; // not known yet
    this.chosen = null; // the name of the one that was asked for, kept from photo to photo
    this.names = make("div", { class: "policy-names", role: "group", "aria-label": "Policies" });
    this.list = make("ul", { class: "judged" });
    this.said = make("p", { class: "bars-said", role: "status" });
    this.element = make("section", { class: "policies", hidden: true }, make("h3", {}, "Judge by a policy"), this.names, this.list, this.said);
  }

  /** Another photo: it is judged by the policy that is chosen. */
  show() {
    this.request?.abort();
    this.list.replaceChildren();
    this.say("");
    if (this.policies === null && this.asked()) this.load();
    else if (this.chosen) this.judge(this.chosen);
  }

  async load() {
    this.policies = [];
    try {
      this.policies = (await ask("/v1/policies")).data;
    } catch {
      this.policies = null; // asked again with the next photo
      return;
    }
    this.element.hidden = !this.policies.length;
    this.names.replaceChildren(...this.policies.map(({ name, description }) =>
      make("button", { type: "button", class: "button", "aria-pressed": "false", title: description, onclick: () => this.choose(name) }, name)));
  }

  /** Choosing the one that is chosen takes it back. */
  choose(name) {
    this.chosen = this.chosen === name ? null : name;
    for (const button of this.names.children) button.setAttribute("aria-pressed", String(button.textContent === this.chosen));
    this.show();
  }

  say(text, wrong = false) {
    this.said.textContent = text;
    this.said.classList.toggle("wrong", wrong);
  }

  async judge(name) {
    const what = this.asked();
    if (!what) return;
    const request = (this.request = new AbortController());
    try {
      const { results: [found] } = await ask("/v1/moderate", { ids: [what.id], collection: what.collection, policy: name }, request.signal);
      if (request.signal.aborted) return;
      const { categories } = this.policies.find((policy) => policy.name === name);
      this.list.replaceChildren(...Object.entries(found.categories).map(([category, said]) => judged(category, said, categories[category])));
      this.say(Object.values(found.categories).some((said) => said.band === "not fitted") ? UNFITTED : "Nothing is kept, and the photo stays as it is.");
      announce(`${name}: ${found.band}`);
    } catch (error) {
      if (error.name !== "AbortError") this.say(error.message, true);
    }
  }
}

/** A category: its band, how likely it is, and the nearest texts and examples for it and against it. */
function judged(name, said, { description, base_rate: share, cannot_tell: reason }) {
  const likely = said.probability === null ? "" : `${percent(said.probability)} likely (95% from ${percent(said.interval[0])} to ${percent(said.interval[1])}), where ${percent(share)} of photos are.`;
  const evidence = ["for", "against"].filter((side) => said.nearest[side]).map((side) => {
    const { text, text_cosine: near, example, example_cosine: alike } = said.nearest[side];
    const like = example ? `, example ${example} ${alike.toFixed(2)}` : "";
    return [make("dt", {}, side), make("dd", {}, `“${text}” ${near.toFixed(2)}${like}`)];
  });
  return make("li", {},
    make("p", { class: "judged-head" }, make("span", {}, name), make("span", { class: `verdict ${said.band.replace(" ", "-")}` }, said.band)),
    make("p", { class: "meaning" }, [description, likely, reason].filter(Boolean).join(" ")),
    make("dl", { class: "evidence", title: "Nearest texts and examples, with their cosines" }, evidence.flat()),
  );
}
