// Before anything is asked: what there is, in named groups, so that nobody faces an empty box.
import { show, thumbnailPath } from "./api.js";
import { linkWith } from "./address.js";
import { make } from "./elements.js";
import { count } from "./wording.js";

const SHOWN = 6; // pictures of a group

export class Welcome {
  /** `look(words)` searches for them. */
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
    this.greeting.textContent = total === 0 ? "There are no pictures here yet" : "What are you looking for?";
    if (total === 0) return this.fillEmpty();
    this.lead.textContent = total ? `${count(total, "picture")} here. Say what one shows, or drop a picture to find more like it.` : "Say what a picture shows, or drop one to find more like it.";
    if (this.filled) return;
    this.filled = true;
    try {
      const map = await this.session.map(() => {
        if (!this.groups.childElementCount) this.groups.append(make("p", { class: "unseen", role: "status" }, "Sorting the pictures into groups…"), ...this.ghosts());
      });
      this.groups.replaceChildren(...map.clusters.filter((cluster) => cluster.size > 0).map((cluster) => this.group(cluster, map)));
    } catch {
      this.filled = false;
      this.groups.replaceChildren(); // the search works without it, and says itself what is wrong
    }
  }

  fillEmpty() {
    const { name } = this.session.chosen;
    this.lead.replaceChildren("Pictures come into it with ", make("code", {}, `tandem index FOLDER --to ${name}`), ". This page shows them as they arrive.");
    this.groups.replaceChildren();
    this.filled = false;
  }

  /** The collection changed: the groups are asked for anew. */
  stale() {
    this.filled = false;
    if (!this.element.hidden) this.show();
  }

  /** Where groups will be. */
  ghosts() {
    return Array.from({ length: 6 }, () => make("section", { class: "group ghost", "aria-hidden": "true" }, make("h2", {}, "\u00a0"), make("div", { class: "strip" }, Array.from({ length: SHOWN }, () => make("span")))));
  }

  group(cluster, map) {
    const ids = cluster.representatives.slice(0, SHOWN);
    const names = new Map(map.pictures.filter(({ id }) => ids.includes(id)).map(({ id, path }) => [id, path]));
    return make(
      "section",
      { class: "group" },
      make("h2", {}, make("button", { type: "button", onclick: () => this.look(cluster.name) }, cluster.name), make("span", {}, cluster.size.toLocaleString("en"))),
      make(
        "div",
        { class: "strip" },
        ids.map((id, place) =>
          make(
            "a",
            { href: linkWith({ picture: id }), "aria-label": `${cluster.name}, picture ${place + 1}`, title: names.get(id)?.split("/").at(-1) ?? null },
            show(make("img", { alt: "" }), thumbnailPath(id, this.session.collection)),
          ),
        ),
      ),
    );
  }
}
