// Dropped images and what a detector says of them.
import { post } from "./api.js";
import { figure, h } from "./dom.js";

const AT_ONCE = 8;
const BADGES = { ok: "good", review: "warn", defect: "bad" };

/** A few at a time, so that the first verdict is there at once. */
export async function scoreFiles(detectorId, files, list) {
  list.replaceChildren();
  for (let start = 0; start < files.length; start += AT_ONCE) {
    const part = files.slice(start, start + AT_ONCE);
    const body = new FormData();
    for (const file of part) body.append("files", file, file.name);
    const answer = await post(`/detectors/${detectorId}/score?explain=map`, { body });
    const left = [...part];
    for (const item of answer.items) list.append(scored(item, take(left, item.name), answer.calibration));
    for (const item of answer.rejected) list.append(refused(item));
  }
}

function take(files, name) {
  const at = files.findIndex((file) => file.name === name);
  return at < 0 ? undefined : files.splice(at, 1)[0];
}

function scored(item, file, calibration) {
  const photo = h("img", { alt: item.name });
  if (file) preview(file).then((url) => { photo.src = url; });
  const pictures = h("div", { class: "pictures" }, photo, item.map_url && h("img", { src: item.map_url, alt: `Heat map of ${item.name}` }));
  return h("li", { class: "scored", dataset: { verdict: item.verdict } }, pictures,
    h("div", { class: "said" }, h("strong", {}, item.name),
      h("span", { class: `badge ${BADGES[item.verdict]}` }, item.verdict),
      ` score ${figure(item.score)}, p ${item.p_value.toPrecision(2)} · defect above ${figure(calibration.threshold)}`));
}

function refused(item) {
  return h("li", { class: "scored" }, h("div", { class: "said" }, h("strong", {}, item.name), h("span", { class: "badge bad" }, "refused"), ` ${item.reason}`));
}

/** A data URL: the page's policy allows no blob: ones. */
function preview(file) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.readAsDataURL(file);
  });
}
