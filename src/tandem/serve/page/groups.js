// The map's clusters as a list: each opens to its images, other names, and a link to a search.
import { show, thumbnailPath } from "./api.js";
import { linkHere, linkWith } from "./router.js";
import { color } from "./drawing.js";
import { calm, icon, make } from "./dom.js";
import { groupName } from "./format.js";

export class Groups {
  /** `chosen(place)` is called with the group that was opened, or null when it was closed again. */
  constructor(clusters, collection, chosen) {
    Object.assign(this, { clusters, collection, chosen });
    this.list = make("ol", { class: "clusters" }, clusters.map((cluster, place) => this.entry(cluster, place)));
  }

  entry(cluster, place) {
    const dot = make("span", { class: "dot" });
    dot.style.background = color(place);
    const more = make("div", { class: "more", hidden: true, id: `cluster-${place}` });
    const size = make("span", { class: "cluster-size" }, cluster.size.toLocaleString("en"), make("span", { class: "unseen" }, " photos"));
    return make("li", {}, make("button", { type: "button", class: "cluster", "aria-expanded": "false", "aria-controls": more.id, onclick: () => this.choose(place) }, dot, make("span", { class: cluster.name ? "cluster-name" : "cluster-name unnamed" }, groupName(cluster)), size), more);
  }

  /** Open a group, and close what was open; the second time close it again. */
  choose(place) {
    const entry = this.list.children[place];
    const [head, more] = entry.children;
    const wasOpen = head.getAttribute("aria-expanded") === "true";
    for (const { children: [other, inside] } of this.list.children) {
      other.setAttribute("aria-expanded", "false");
      inside.hidden = true;
    }
    if (wasOpen) return this.chosen(null);
    head.setAttribute("aria-expanded", "true");
    more.hidden = false;
    if (!more.childElementCount) more.append(...this.inside(this.clusters[place]));
    entry.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
    this.chosen(place);
  }

  inside({ name, words, representatives }) {
    const others = words.filter((each) => each !== name);
    const tile = (id, rank) => make("a", { href: linkWith({ image: id }), "aria-label": `${groupName({ name })}, photo ${rank + 1}` }, show(make("img", { alt: "" }), thumbnailPath(id, this.collection)));
    if (!name) return [make("p", {}, "No word clearly sets these photos apart."), make("div", { class: "strip" }, representatives.map(tile))];
    return [
      others.length ? make("p", {}, `Also: ${others.join(", ")}`) : null,
      make("div", { class: "strip" }, representatives.map(tile)),
      make("a", { class: "button", href: linkHere("search", { q: name }) }, icon("search"), `Search for “${name}”`),
    ].filter(Boolean);
  }
}
