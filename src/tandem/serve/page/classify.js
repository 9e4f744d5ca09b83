// Classification of an image of the user with labels of their own. Nothing is stored.
import { go, linkHere } from "./router.js";
import { ask } from "./api.js";
import { LabelBars, keptLabels } from "./bars.js";
import { icon, later, make } from "./dom.js";
import { readImage } from "./drop_paste.js";

const LABELS = ["cat", "dog", "person", "flower", "building", "food"];
const TEMPLATE = "a photo of a {}.";

export class Classify {
  constructor() {
    this.local = null;
    this.file = make("input", { type: "file", accept: "image/*", class: "unseen", id: "classify-file", onchange: () => this.file.files[0] && this.take({ file: this.file.files[0] }) });
    this.hint = make("div", { class: "hint" }, icon("image"), make("strong", {}, "Drop a photo"), make("span", {}, "or paste one, or choose a file"));
    this.image = make("img", { alt: "", hidden: true });
    this.zone = make("label", { class: "zone", for: "classify-file" }, this.hint, this.image);
    this.bars = new LabelBars("tandem-labels", keptLabels("tandem-labels", LABELS), (...asked) => this.classified(...asked));
    this.template = make("input", { type: "text", id: "template", value: TEMPLATE, autocomplete: "off", spellcheck: "false", maxlength: 500, oninput: later(() => this.bars.refresh(), 250) });
    this.said = make("div", {});
    this.element = make("section", { class: "classify", "aria-labelledby": "classify-title" },
      make("div", { class: "classify-head" }, make("h1", { id: "classify-title" }, "Classify"), make("p", {}, "Any photo, any labels. They compete, and together make 100%, unless they are independent.")),
      make("div", { class: "classify-body" },
        make("div", { class: "classify-image" }, this.file, this.zone, this.said),
        make("div", { class: "classify-labels" },
          make("h2", {}, "Labels"), this.bars.element,
          make("div", { class: "field" }, make("label", { for: "template" }, "Template for each label"), this.template),
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
    this.bars.refresh();
  }

  async classified(labels, independent, signal) {
    if (!this.local) return null;
    const template = this.template.value.trim() || "{}";
    if (!template.includes("{}")) throw new Error("The template needs {} where the label belongs.");
    const answer = await ask("/v1/classify", { image: this.local.uri, labels, independent, templates: [template] }, signal);
    if (!answer.results.length) throw new Error(answer.failures[0]?.error ?? "The photo could not be read.");
    return answer.results[0].probabilities;
  }

  open() {
    document.title = "Classify · Tandem";
    this.bars.refresh();
  }

  routeChanged() {}

  close() {
    this.bars.close();
  }
}
