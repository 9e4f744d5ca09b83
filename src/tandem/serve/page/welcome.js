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
    this.lead = make("p", { class: "lead" });
    this.element = make("div", { class: "welcome", hidden: true }, make("p", { class: "greeting" }, "What are you looking for?"), this.lead, this.groups);
  }

  hide() {
    this.element.hidden = true;
  }

  async show() {
    this.element.hidden = false;
    const total = this.session.count;
    this.lead.textContent = total ? `${count(total, "picture")} here. Say what one shows, or drop a picture to find more like it.` : "Say what a picture shows, or drop one to find more like it.";
    if (this.filled || total === 0) return;
    this.filled = true;
    try {
      const map = await this.session.map(() => {
        if (!this.groups.childElementCount) this.groups.append(make("p", { class: "waiting", role: "status" }, "Looking at what is here…"));
      });
      this.groups.replaceChildren(...map.clusters.filter((cluster) => cluster.size > 0).map((cluster) => this.group(cluster, map)));
    } catch {
      this.filled = false;
      this.groups.replaceChildren(); // the search works without it, and says itself what is wrong
    }
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
