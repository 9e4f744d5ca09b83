// Classification of an image of the user with labels of their own, or by a head of the server. Nothing is stored but
// corrections, where the server keeps them.
import { go, linkHere } from "./router.js";
import { ask } from "./api.js";
import { LabelBars, keptLabels } from "./bars.js";
import { Correction } from "./corrections.js";
import { icon, later, make } from "./dom.js";
import { readImage } from "./drop_paste.js";
import { HeadChoice, headBars } from "./heads.js";

const LABELS = ["cat", "dog", "person", "flower", "building", "food"];
const TEMPLATE = "a photo of a {}.";
const BY_LABELS = "Any photo, any labels. They compete, and together make 100%, unless they are independent.";
const BY_HEAD = "The classes of a head. They compete, and together make 100%.";

export class Classify {
  constructor() {
    this.local = null;
    this.answered = false; // only an answer can be corrected
    this.file = make("input", { type: "file", accept: "image/*", class: "unseen", id: "classify-file", onchange: () => this.file.files[0] && this.take({ file: this.file.files[0] }) });
    this.hint = make("div", { class: "hint" }, icon("image"), make("strong", {}, "Drop a photo"), make("span", {}, "or paste one, or choose a file"));
    this.image = make("img", { alt: "", hidden: true });
    this.zone = make("label", { class: "zone", for: "classify-file" }, this.hint, this.image);
    this.bars = new LabelBars("tandem-labels", keptLabels("tandem-labels", LABELS), (...asked) => this.classified(...asked));
    this.template = make("input", { type: "text", id: "template", value: TEMPLATE, autocomplete: "off", spellcheck: "false", maxlength: 500, oninput: later(() => this.bars.refresh(), 250) });
    this.head = new HeadChoice(() => this.refresh());
    this.classes = make("ul", { class: "bars", "aria-label": "Classes" });
    this.classesSaid = make("p", { class: "bars-said", role: "status" });
    this.byHead = make("div", { class: "label-bars", hidden: true }, make("h2", {}, "Classes"), this.classes, this.classesSaid);
    this.byLabels = make("div", {},
      make("h2", {}, "Labels"), this.bars.element,
      make("div", { class: "field" }, make("label", { for: "template" }, "Template for each label"), this.template));
    this.correction = new Correction("correction", () => this.local && this.answered && { image: this.local.uri }, () => this.head.chosen?.classes ?? this.bars.labels());
    this.meaning = make("p", {}, BY_LABELS);
    this.said = make("div", {});
    this.element = make("section", { class: "classify", "aria-labelledby": "classify-title" },
      make("div", { class: "classify-head" }, make("h1", { id: "classify-title" }, "Classify"), this.meaning),
      make("div", { class: "classify-body" },
        make("div", { class: "classify-image" }, this.file, this.zone, this.said),
        make("div", { class: "classify-labels" },
          this.head.element, this.byLabels, this.byHead, this.correction.element,
        ),
      ),
    );
  }

  /** Use an image that was dropped or pasted; see imageFrom in drop_paste.js. */
  async take({ file, note, like, refused }) {
    if (like) return go(linkHere("search", { like }));
    this.said.replaceChildren(...(note ? [make("p", { class: "message", role: "status" }, note)] : []));
    try {
      if (refused) throw new Error(refused);
      this.local = await readImage(file);
      this.file.value = "";
    } catch (error) {
      this.said.replaceChildren(make("p", { class: "message wrong", role: "alert" }, error.message));
      return;
    }
    this.image.src = this.local.uri;
    this.image.alt = this.local.name;
    this.image.hidden = false;
    this.hint.classList.add("after");
    this.hint.replaceChildren(make("strong", {}, "Another one?"), make("span", {}, "Drop, paste or choose it"));
    this.refresh();
  }

  /** Ask anew: another photo, or another head. */
  async refresh() {
    const head = this.head.chosen;
    this.byLabels.hidden = Boolean(head);
    this.byHead.hidden = !head;
    this.meaning.textContent = head ? BY_HEAD : BY_LABELS;
    this.asked?.abort();
    this.hasAnswer(false);
    if (!head) return this.bars.refresh();
    const asked = (this.asked = new AbortController());
    this.classes.replaceChildren();
    this.classesSaid.classList.remove("wrong");
    this.classesSaid.textContent = this.local ? "" : "Choose a photo to see what it is.";
    if (!this.local) return;
    try {
      const answer = await ask("/v1/classify", { image: this.local.uri, head: head.name }, asked.signal);
      if (asked.signal.aborted) return;
      this.classes.replaceChildren(...headBars(answer.results[0].probabilities));
      this.hasAnswer(true);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.classesSaid.textContent = error.message;
      this.classesSaid.classList.add("wrong");
    }
  }

  async classified(labels, independent, signal) {
    if (!this.local) return null;
    const template = this.template.value.trim() || "{}";
    if (!template.includes("{}")) throw new Error("The template needs {} where the label belongs.");
    const answer = await ask("/v1/classify", { image: this.local.uri, labels, independent, templates: [template] }, signal);
    if (!answer.results.length) throw new Error(answer.failures[0]?.error ?? "The photo could not be read.");
    if (!signal.aborted && !this.answered) this.hasAnswer(true);
    return answer.results[0].probabilities;
  }

  /** Whether there is an answer to the photo; the correction of another one goes. */
  hasAnswer(answered) {
    this.answered = answered;
    this.correction.show();
  }

  open() {
    document.title = "Classify · Tandem";
    this.refresh();
    // Whoever has labels of their own does not need them.
    this.head.load().then(() => this.head.chosen && this.refresh(), () => {});
  }

  routeChanged() {}

  close() {
    this.asked?.abort();
    this.bars.close();
  }
}
