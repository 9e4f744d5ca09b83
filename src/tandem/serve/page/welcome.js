// The start page: the collection in named groups, so that nobody faces an empty search box.
import { show, thumbnailPath } from "./api.js";
import { linkWith } from "./router.js";
import { make } from "./dom.js";
import { count, groupName } from "./format.js";

const SHOWN = 6; // images of a group

export class Welcome {
  /** `look(text)` searches for a text. */
  constructor(session, look) {
    this.session = session;
    this.look = look;
    this.groups = make("div", { class: "groups" });
    this.greeting = make("p", { class: "greeting" });
    this.lead = make("p", { class: "lead" });
    this.element = make("div", { class: "welcome", hidden: true }, this.greeting, this.lead, this.groups);
  }

  hide() {
    this.element.hidden = true;
  }

  async show() {
    this.element.hidden = false;
    const total = this.session.count;
    this.greeting.textContent = total === 0 ? "There are no photos here yet" : "What are you looking for?";
    if (total === 0) return this.fillEmpty();
    this.lead.textContent = total ? `${count(total, "photo")} here. Describe one, or drop a photo to find similar ones.` : "Describe a photo, or drop one to find similar ones.";
    if (this.filled) return;
    this.filled = true;
    try {
      const map = await this.session.map(() => {
        if (!this.groups.childElementCount) this.groups.append(make("p", { class: "unseen", role: "status" }, "Grouping the photos…"), ...this.ghosts());
      });
      this.groups.replaceChildren(...map.clusters.filter((cluster) => cluster.size > 0).map((cluster) => this.group(cluster, map)));
    } catch {
      this.filled = false;
      this.groups.replaceChildren(); // the search works without groups, and reports errors itself
    }
  }

  fillEmpty() {
    const { name } = this.session.chosen;
    this.lead.replaceChildren("Add photos with ", make("code", {}, `tandem index FOLDER --to ${name}`), ". They appear here as they are indexed.");
    this.groups.replaceChildren();
    this.filled = false;
  }

  /** The collection changed: fetch the groups again. */
  stale() {
    this.filled = false;
    if (!this.element.hidden) this.show();
  }

  /** Placeholders for the groups. */
  ghosts() {
    return Array.from({ length: 6 }, () => make("section", { class: "group ghost", "aria-hidden": "true" }, make("h2", {}, "\u00a0"), make("div", { class: "strip" }, Array.from({ length: SHOWN }, () => make("span")))));
  }

  group(cluster, map) {
    const ids = cluster.representatives.slice(0, SHOWN);
    const names = new Map(map.images.filter(({ id }) => ids.includes(id)).map(({ id, path }) => [id, path]));
    return make(
      "section",
      { class: "group" },
      make("h2", {}, cluster.name ? make("button", { type: "button", onclick: () => this.look(cluster.name) }, cluster.name) : make("em", {}, groupName(cluster)), make("span", {}, cluster.size.toLocaleString("en"))),
      make(
        "div",
        { class: "strip" },
        ids.map((id, place) =>
          make(
            "a",
            { href: linkWith({ image: id }), "aria-label": `${groupName(cluster)}, photo ${place + 1}`, title: names.get(id)?.split("/").at(-1) ?? null },
            show(make("img", { alt: "" }), thumbnailPath(id, this.session.collection)),
          ),
        ),
      ),
    );
  }
}
