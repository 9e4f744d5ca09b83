// Images from the user: dropped, pasted or chosen, as data URIs small enough to send.
const MAX_BYTES = 6_000_000; // larger files are shrunk here: the model reads a few hundred pixels per side
const LONGEST_SIDE = 1600;
const SERVER_KNOWS = /\.(hei[cf]|tiff?|avif|jp2|jxl)$/i; // formats that this browser may not read and the server may
const ELSEWHERE = "That is an address, and nothing is fetched from other sites. Copy or save the photo, then paste or drop it here.";

/** { uri, name } of an image's file. Throws an Error with a message for the user. */
export async function readImage(file) {
  if (!file.type.startsWith("image/") && file.type !== "") throw new Error(`${file.name}: expected an image, got ${file.type}`);
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap && !SERVER_KNOWS.test(file.name)) throw new Error(`${file.name || "What was given"} cannot be read as an image.`);
  const shown = bitmap && file.size > MAX_BYTES ? await smaller(file, bitmap) : file;
  bitmap?.close();
  const uri = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name}: could not be read`));
    reader.readAsDataURL(shown);
  });
  return { uri, name: file.name || "photo" };
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

/** What was dropped or pasted: { file, note } or { like: id } or { refused: reason }; null if the page has no use for it. */
export function imageFrom(items) {
  const files = [...(items?.files ?? [])];
  const images = files.filter((file) => file.type.startsWith("image/"));
  const [file] = images.length ? images : files;
  if (file) return { file, note: images.length > 1 ? `Of ${images.length} photos the first one is taken: ${file.name}.` : null };
  const [address] = (items?.getData("text/uri-list") ?? "").split(/[\r\n]+/).filter((line) => line && !line.startsWith("#"));
  if (!address) return null;
  const id = address.startsWith(`${location.origin}/#`) && new URLSearchParams(address.split("?")[1]).get("image");
  return id ? { like: id } : { refused: ELSEWHERE };
}

/** Call `taken` with what `imageFrom` makes of everything that is dropped on the window or pasted into it. */
export function watchForImages(taken) {
  const veil = document.getElementById("drop-veil");
  let depth = 0; // dragenter and dragleave fire for every element on the way
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
    const given = imageFrom(event.dataTransfer);
    if (given) taken(given);
  });
  addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return; // text is pasted into the focused field
    event.preventDefault();
    taken(imageFrom(event.clipboardData));
  });
}
