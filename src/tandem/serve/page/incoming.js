// Pictures from the reader: dropped, pasted or chosen, as data URIs small enough to send.
const MOST_BYTES = 6_000_000; // what is larger is made smaller here: the model looks at a few hundred pixels a side
const LONGEST_SIDE = 1600;
const SERVER_KNOWS = /\.(hei[cf]|tiff?|avif|jp2|jxl)$/i; // formats that this browser may not read and the server may
const ELSEWHERE = "That is an address, and nothing is fetched from other sites. Copy or save the picture, then paste or drop it here.";

/** { uri, name } of a picture's file. Raises an Error with a line for people. */
export async function readPicture(file) {
  if (!file.type.startsWith("image/") && file.type !== "") throw new Error(`${file.name}: expected a picture, got ${file.type}`);
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap && !SERVER_KNOWS.test(file.name)) throw new Error(`${file.name || "What was given"} cannot be read as a picture.`);
  const shown = bitmap && file.size > MOST_BYTES ? await smaller(file, bitmap) : file;
  bitmap?.close();
  const uri = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name}: could not be read`));
    reader.readAsDataURL(shown);
  });
  return { uri, name: file.name || "picture" };
}

function smaller(file, bitmap) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(blob ?? file), "image/jpeg", 0.93));
}

/** What was handed over: { file, note } or { like: id } or { refused: why }; null where it is no business of the page. */
export function handedOver(items) {
  const files = [...(items?.files ?? [])];
  const pictures = files.filter((file) => file.type.startsWith("image/"));
  const [file] = pictures.length ? pictures : files;
  if (file) return { file, note: pictures.length > 1 ? `Of ${pictures.length} pictures the first one is taken: ${file.name}.` : null };
  const [address] = (items?.getData("text/uri-list") ?? "").split(/[\r\n]+/).filter((line) => line && !line.startsWith("#"));
  if (!address) return null;
  const id = address.startsWith(`${location.origin}/#`) && new URLSearchParams(address.split("?")[1]).get("picture");
  return id ? { like: id } : { refused: ELSEWHERE };
}

/** Call `taken` with whatever is dropped on the window or pasted into it, as `handedOver` tells it. */
export function watchForPictures(taken) {
  const veil = document.getElementById("drop-veil");
  let depth = 0; // drags enter and leave every element on their way
  const carriesSomething = (event) => [...(event.dataTransfer?.types ?? [])].some((type) => type === "Files" || type === "text/uri-list");
  const lift = () => {
    depth = 0;
    veil.classList.remove("on");
  };
  addEventListener("dragenter", (event) => {
    if (!carriesSomething(event)) return;
    depth += 1;
    veil.classList.add("on");
  });
  addEventListener("dragleave", (event) => {
    if (carriesSomething(event) && --depth <= 0) lift();
  });
  addEventListener("dragend", lift);
  addEventListener("dragover", (event) => carriesSomething(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carriesSomething(event)) return;
    event.preventDefault();
    lift();
    const given = handedOver(event.dataTransfer);
    if (given) taken(given);
  });
  addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return; // words go where they are pasted
    event.preventDefault();
    taken(handedOver(event.clipboardData));
  });
}
