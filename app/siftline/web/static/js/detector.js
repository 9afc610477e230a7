// One detector: how it came about, how it decides, and a place to try it.
import { get, post } from "./api.js";
import { drawCurve } from "./curve.js";
import { byId, bytes, count, figure, h, moment, percent } from "./dom.js";
import { acceptDrops } from "./drop.js";
import { follow, show } from "./live.js";
import { scoreFiles } from "./scoring.js";
import { complain } from "./toast.js";

const id = byId("main").dataset.detector;
const METHODS = { funad: "FUN-AD", cdd: "CDD" };
const BADGES = { ready: "good", failed: "bad" };

async function load() {
  const detector = await get(`/detectors/${id}`);
  document.title = `${detector.name} · Siftline`;
  byId("name").textContent = detector.name;
  byId("state").replaceChildren(h("span", { class: `badge ${BADGES[detector.state] ?? ""}` }, detector.state));
  byId("failed").textContent = detector.state === "failed" ? (detector.job.error?.detail ?? "The training failed.") : "";
  byId("cards").replaceChildren(...[about(detector), calibration(detector), curve(detector), pictures(detector), artifacts(detector)].filter(Boolean));
  if (byId("score")) byId("score").hidden = detector.state !== "ready";
  if (detector.state === "training") watch(detector.job).catch(complain);
}

async function watch(job) {
  const place = byId("running");
  place.hidden = false;
  show(place, job);
  if (byId("cancel")) byId("cancel").onclick = () => post(`/jobs/${job.id}/cancel`).catch(complain);
  await follow(job.id, (now) => show(place, now));
  place.hidden = true;
  await load();
}

const card = (title, ...content) => h("section", { class: "panel", "aria-label": title }, h("h2", {}, title), ...content);
const pairs = (list) => h("dl", { class: "pairs" }, list.filter(Boolean).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

function about(detector) {
  const { lineage } = detector;
  return card("Where it comes from", pairs([
    ["Method", METHODS[detector.method]],
    ["Trained on", h("a", { href: `/d/${detector.dataset_id}?version=${detector.version}` }, `version ${detector.version}`)],
    ["Asked for", moment(detector.created_at)],
    lineage && ["Clean images", count(lineage.images)],
    lineage && ["Decisions heeded up to", `revision ${lineage.review_revision}`],
    lineage && ["Backbone", lineage.backbone.name ?? ""],
    lineage && ["Code", lineage.code_version],
    lineage && ["Images' hash", h("code", { title: lineage.images_sha256 }, lineage.images_sha256.slice(0, 12))],
  ]));
}

function withSetAside({ n, good_set_aside: aside, target_fpr: wanted }) {
  return (wanted * n + aside) / (n + aside);
}

function calibration({ calibration: found }) {
  return found && card("Calibration", pairs([
    ["Method", found.method],
    ["Good images it rests on", count(found.n)],
    found.suspects_heeded > 0 && ["Suspects among them", `${count(found.suspects_heeded)}, the least odd: so many are probably good`],
    found.suspects_heeded == null && found.good_set_aside != null && ["Good images set aside", `about ${count(Math.round(found.good_set_aside))}: up to ${percent(withSetAside(found))} false alarms with their like`],
    ["Seen in training", found.in_sample ? "yes: p-values flatter" : "no"],
    ["Defect above", `${figure(found.threshold)} (${percent(found.target_fpr)} false alarms)`],
    ["Review above", `${figure(found.review_threshold)} (${percent(found.review_fpr)})`],
    ["Date", moment(found.date)],
  ]));
}

function curve({ curve: points }) {
  return points.length > 1 && card("Training loss", drawCurve(points));
}

function pictures({ artifacts: list }) {
  const drawn = list.filter((one) => one.media_type === "image/png");
  return drawn.length > 0 && card("Training and calibration", ...drawn.map((one) => h("img", { class: "drawn", src: one.url, alt: one.name, loading: "lazy" })));
}

function artifacts({ artifacts: list }) {
  return list.length > 0 && card("Files", pairs(list.map((one) => [h("a", { href: one.url, download: one.name }, one.name), `${bytes(one.bytes)}, ${one.sha256.slice(0, 8)}`])));
}

async function score(files) {
  byId("score-error").textContent = "";
  try {
    await scoreFiles(id, [...files], byId("verdicts"));
  } catch (error) {
    byId("score-error").textContent = error.message;
  }
}

if (byId("drop")) {
  acceptDrops(byId("drop"), score);
  byId("files").addEventListener("change", (event) => score(event.target.files));
}
load().catch(complain);
