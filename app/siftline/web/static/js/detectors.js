// The list of detectors, and a new one.
import { get, onceKey, post } from "./api.js";
import { byId, h, moment } from "./dom.js";
import { follow, show } from "./live.js";
import { complain } from "./toast.js";

const BADGES = { ready: "good", failed: "bad" };
export const METHODS = { funad: "FUN-AD", cdd: "CDD" };

async function load() {
  const list = byId("detectors");
  let cursor = null;
  do {
    const page = await get(`/detectors?limit=200${cursor ? `&cursor=${cursor}` : ""}`);
    list.append(...page.items.map(row));
    cursor = page.next_cursor;
  } while (cursor);
  list.setAttribute("aria-busy", "false");
  byId("none").hidden = list.childElementCount > 0;
}

function row(detector) {
  const element = h("li", { class: "row" },
    h("div", { class: "row-main" },
      h("a", { class: "row-title", href: `/m/${detector.id}` }, detector.name),
      h("p", { class: "hint" }, `${METHODS[detector.method]} · version ${detector.version} of `, h("a", { href: `/d/${detector.dataset_id}?version=${detector.version}` }, "its dataset"), ` · ${moment(detector.created_at)}`)),
    state(detector));
  if (detector.state === "training") watch(element, detector).catch(complain);
  return element;
}

function state(detector) {
  if (detector.state !== "training") return h("div", { class: "state" }, h("span", { class: `badge ${BADGES[detector.state] ?? ""}` }, detector.state));
  return h("div", { class: "state live" }, h("span", { class: "state-words" }), h("progress", { max: 1, value: detector.job.progress, "aria-label": "Training" }), h("span", { class: "state-eta" }));
}

async function watch(element, detector) {
  await follow(detector.job.id, (job) => show(element, job));
  element.replaceWith(row(await get(`/detectors/${detector.id}`)));
}

byId("train")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = event.target.elements;
  const options = { target_fpr: Number(fields.target_fpr.value) / 100 };
  options.review_fpr = Math.min(0.5, Math.max(5 * options.target_fpr, 0.05));
  if (fields.max_minutes.value) options.max_minutes = Number(fields.max_minutes.value);
  const wanted = { dataset_id: fields.dataset_id.value, method: fields.method.value, options };
  if (fields.name.value.trim()) wanted.name = fields.name.value.trim();
  byId("train-error").textContent = "";
  try {
    const { detector } = await post("/detectors", { json: wanted, headers: { "Idempotency-Key": onceKey() } });
    location.assign(`/m/${detector.id}`);
  } catch (error) {
    byId("train-error").textContent = error.message;
  }
});

if (byId("detectors")) load().catch(complain);
