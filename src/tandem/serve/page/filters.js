// Filters as a form -> the server's filter language, and chips that remove them.
import { icon, make } from "./dom.js";

const FILMS = "film"; // of any format: what has a time within it
const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

// Name in the route -> the condition for the server, and a description for people.
const FILTERS = {
  name: { where: (value) => `path ilike ${quoted(`%${value}%`)}`, label: (value) => `path contains “${value}”` },
  wide: { where: (value) => `width >= ${Number(value)}`, label: (value) => `at least ${value} wide` },
  kind: { where: (value) => (value === FILMS ? "time is not null" : `format = ${quoted(value)}`), label: (value) => (value === FILMS ? "films" : value) },
  from: { where: (value) => `taken >= ${quoted(value)}`, label: (value) => `taken from ${value}` },
  // Text compares letter by letter, and the day itself is to be in it.
  until: { where: (value) => `taken <= ${quoted(`${value}T99`)}`, label: (value) => `taken until ${value}` },
  where: { where: (value) => `(${value})`, label: (value) => value },
};
const COLUMNS = ["width", "height", "bytes", "format", "taken", "time", "caption", "path", "latitude", "longitude"];
export const FILTER_NAMES = Object.keys(FILTERS);

export const filtersIn = (values) => Object.fromEntries(FILTER_NAMES.filter((name) => values[name]).map((name) => [name, values[name]]));

/** The filter to send, or undefined if none is set. A condition alone is sent as it was typed. */
export function whereOf(filters) {
  if (filters.where && Object.keys(filters).length === 1) return filters.where;
  return Object.entries(filters).map(([name, value]) => FILTERS[name].where(value)).join(" and ") || undefined;
}

/** The filters that are set, each with a button to remove it. */
export function filterChips(filters, change) {
  return make(
    "ul",
    { class: "chips", "aria-label": "Filters that are set" },
    Object.entries(filters).map(([name, value]) => {
      const label = FILTERS[name].label(value);
      const away = make("button", { type: "button", "aria-label": `Remove filter: ${label}`, onclick: () => change({ [name]: "" }) }, icon("close"));
      return make("li", { class: "chip" }, label, away);
    }),
  );
}

/** The form; `change({ name: value })` is called as fields change. Returns the element and a function that fills it. */
export function filterForm(change) {
  const field = (name, label, input) => {
    input.id = `filter-${name}`;
    input.name = name;
    return make("div", { class: "field" }, make("label", { for: input.id }, label), input);
  };
  const choice = (options) => make("select", {}, options.map(([value, label]) => make("option", { value }, label)));
  const form = make(
    "form",
    {
      class: "filters", id: "filters", "aria-label": "Filters", hidden: true,
      onsubmit: (event) => event.preventDefault(),
      onchange: (event) => change({ [event.target.name]: event.target.value.trim() }),
    },
    field("name", "Path contains", make("input", { type: "text", autocomplete: "off" })),
    field("wide", "Width in pixels", choice([["", "any"], ["640", "640 or more"], ["1280", "1280 or more"], ["1920", "1920 or more"], ["3840", "3840 or more"]])),
    field("kind", "Format", choice([["", "any"], ["JPEG", "JPEG"], ["PNG", "PNG"], ["WEBP", "WebP"], ["GIF", "GIF"], ["HEIF", "HEIC"], [FILMS, "films"]])),
    field("from", "Taken from", make("input", { type: "date" })),
    field("until", "Taken until", make("input", { type: "date" })),
    field("where", "Condition", make("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "width > 1000 and caption is not null", "aria-describedby": "filter-where-help" })),
    make("p", { class: "filter-help", id: "filter-where-help" }, "Fields: ", ...COLUMNS.flatMap((name, place) => [place ? ", " : "", make("code", {}, name)]), "; operators: ", make("code", {}, "= < > like in and or not"), ". Press Enter to apply."),
  );
  const fill = (filters) => {
    for (const input of form.elements) if (input !== document.activeElement) input.value = filters[input.name] ?? "";
  };
  return [form, fill];
}
