// DOM elements from plain values. Text is always text: nothing here parses HTML.

/** An element with attributes (`onclick` and the like are listeners, `class` a class) and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const SHAPES = {
  search: "M10.5 4a6.5 6.5 0 1 1 0 13a6.5 6.5 0 0 1 0-13M15.5 15.5 20.5 20.5",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  filter: "M4 7h16M7 12h10M10 17h4",
  close: "M6 6l12 12M18 6 6 18",
  left: "M14.5 5.5 8 12l6.5 6.5",
  right: "M9.5 5.5 16 12l-6.5 6.5",
  alike: "M4 4h10v10H4zM10 17v3h10V10h-3",
  open: "M13 4h7v7M20 4l-9 9M18 14v6H4V6h6",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
};

/** A line icon of 24 by 24; its meaning is in the text beside it or in the button's label. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

/** Announce a text to screen readers, also if it is the same as before. */
export function announce(text) {
  const announcer = document.getElementById("announcer");
  announcer.replaceChildren(make("p", {}, text));
}

/** Debounce: call `action` once it has not been asked for again for a while. */
export function later(action, wait_ms) {
  let timer = 0;
  const soon = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = 0;
      action(...given);
    }, wait_ms);
  };
  soon.cancel = () => {
    clearTimeout(timer);
    timer = 0;
  };
  soon.pending = () => timer !== 0;
  return soon;
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
