// Pictures from the reader: dropped, pasted or chosen, as data URIs small enough to send.
const MOST_BYTES = 6_000_000; // what is larger is made smaller here: the model looks at a few hundred pixels a side
const LONGEST_SIDE = 1600;

/** { uri, name } of a picture's file. Raises an Error with a line for people. */
export async function readPicture(file) {
  if (!file.type.startsWith("image/") && file.type !== "") throw new Error(`${file.name}: expected a picture, got ${file.type}`);
  const shown = file.size > MOST_BYTES ? await smaller(file) : file;
  const uri = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name}: could not be read`));
    reader.readAsDataURL(shown);
  });
  return { uri, name: file.name || "picture" };
}

async function smaller(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return file; // a format that only the server knows
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(blob ?? file), "image/jpeg", 0.93));
}

const pictureIn = (items) => [...(items?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? items?.files?.[0];

/** Call `taken` with the file of whatever picture is dropped on the window or pasted into it. */
export function watchForPictures(taken) {
  const veil = document.getElementById("drop-veil");
  let depth = 0; // drags enter and leave every element on their way
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const lift = () => {
    depth = 0;
    veil.classList.remove("on");
  };
  addEventListener("dragenter", (event) => {
    if (!carriesFile(event)) return;
    depth += 1;
    veil.classList.add("on");
  });
  addEventListener("dragleave", (event) => {
    if (carriesFile(event) && --depth <= 0) lift();
  });
  addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    lift();
    const file = pictureIn(event.dataTransfer);
    if (file) taken(file);
  });
  addEventListener("paste", (event) => {
    const file = pictureIn(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    taken(file);
  });
}
