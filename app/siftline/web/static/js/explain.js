// Why an image stands where it stands: its oddest patch beside the nearest patches of other images.
import { get } from "./api.js";
import { byId, figure, h } from "./dom.js";

const CONTEXT = 1.6; // a patch is shown with some of what is around it
const CROP_PX = 192;

/** Fills the section, or hides it where there is no explanation; gives the box of the oddest patch, or null. */
export async function explain(item, version, signal) {
  const section = byId("why");
  section.hidden = true;
  let found;
  try {
    found = await get(`/images/${item.image_id}/explanation?version=${version}`, { signal });
  } catch {
    return null;
  }
  byId("why-words").textContent = inWords(found);
  byId("why-patches").replaceChildren(
    patch(item.image_id, found.box, "this image", true),
    ...found.neighbours.map((near) => patch(near.image_id, near.box, `${figure(near.distance)} away`, false)),
  );
  section.hidden = false;
  return found.box;
}

function inWords({ distance, typical_distance: typical, neighbours }) {
  const times = typical > 0 ? distance / typical : 0;
  const far = times > 1.05
    ? `${figure(times)} times as far from anything else as the oddest patch of a typical image`
    : "no farther from the rest than the oddest patch of a typical image";
  return `Its oddest patch is ${far} (${figure(distance)}; typical ${figure(typical)}).${neighbours.length ? " The nearest patches elsewhere:" : ""}`;
}

function patch(imageId, box, words, odd) {
  const canvas = h("canvas", { width: CROP_PX, height: CROP_PX, role: "img", "aria-label": words });
  const image = new Image();
  image.addEventListener("load", () => crop(canvas, image, box));
  image.addEventListener("error", () => { if (!image.src.endsWith("/thumbnail")) image.src = `/images/${imageId}/thumbnail`; });
  image.src = `/images/${imageId}/content`;
  return h("figure", { class: odd ? "patch odd" : "patch" }, canvas, h("figcaption", {}, words));
}

function crop(canvas, image, { left, top, right, bottom }) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const side = CONTEXT * Math.max((right - left) * width, (bottom - top) * height);
  const x = ((left + right) / 2) * width - side / 2;
  const y = ((top + bottom) / 2) * height - side / 2;
  canvas.getContext("2d").drawImage(image, x, y, side, side, 0, 0, CROP_PX, CROP_PX);
}
