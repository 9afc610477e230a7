// One dataset: the parts put together.
import { get, post } from "./api.js";
import { ask } from "./ask.js";
import { Clusters } from "./clusters.js";
import { Scores } from "./cut.js";
import { Decisions } from "./decisions.js";
import { byId, count, debounced, plural } from "./dom.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { Histogram } from "./histogram.js";
import { Items } from "./items.js";
import { bindKeys } from "./keys.js";
import { follow, show } from "./live.js";
import { complain } from "./toast.js";
import { Viewer } from "./viewer.js";

const main = byId("main");
const { dataset, who } = main.dataset;
const version = Number(main.dataset.version);
const mayDecide = main.dataset.mayDecide === "1";

const decisions = new Decisions({ dataset, version, who, revision: Number(main.dataset.revision) });
const items = new Items(dataset, version, (id) => decisions.pendingOf(id));
decisions.items = items;
const grid = new Grid(byId("grid"), items, Number(main.dataset.aspect));
const filters = new Filters();
const viewer = new Viewer(items, { dataset, version });
const clusters = new Clusters({ dataset, version, mayDecide });
const histogram = new Histogram(byId("histogram"), byId("cut-readout"), Number(main.dataset.cut));

/* The list */

function narrow() {
  grid.restart();
  byId("nothing").hidden = true;
  showClusters();
  items.reset(filters.query()).then(() => tellCurrent(), complain);
}

function showClusters() {
  clusters.show(filters.value("show"), filters.value("cluster"));
}

items.addEventListener("change", ({ detail }) => {
  // Read before a decision that was answered first: without this the card would deny it until the next reload.
  if (detail.revision < decisions.seen) decisions.lookAgainFrom(detail.revision).catch(() => {}); // offline: the next look
  const folded = items.images - items.total;
  byId("found").textContent = `${plural(items.images, "image")}${folded ? `, ${count(folded)} folded` : ""}`;
  byId("nothing").hidden = items.total !== 0;
  viewer.refresh();
});
items.addEventListener("fault", (event) => complain(event.detail));
filters.addEventListener("change", narrow);
filters.addEventListener("heat", (event) => grid.setHot(event.detail));
byId("show-all").addEventListener("click", () => filters.set({ show: "", review: "", cluster: "", q: "" }));

/* Decisions */

/** The images that a word is about: the selected ones or the current one, with what is folded under them. */
function targets() {
  const chosen = viewer.isOpen ? [viewer.item] : grid.selected.size ? [...grid.selected].map((id) => items.find(id)) : [items.at(grid.current)];
  const folded = filters.query().get("folded") === "true";
  const ids = chosen.filter(Boolean).flatMap((item) => [item.image_id, ...(folded ? item.near_duplicates : [])]);
  return [...new Set(ids)];
}

function decide(word) {
  if (!mayDecide) return;
  const ids = targets();
  if (!ids.length) return;
  const one = viewer.isOpen || !grid.selected.size;
  decisions.decide(word, ids);
  if (!one) grid.selectNone();
  else if (word !== "clear" && viewer.isOpen) viewer.step(1);
  else if (word !== "clear") grid.go(grid.current + 1, { focus: byId("grid").contains(document.activeElement) });
}

async function decideAll(word, selection, images, words) {
  const doing = { keep: "Keep", reject: "Reject", clear: "Clear the decisions of" }[word];
  const sure = await ask({ title: `${doing} ${plural(images, "image")}?`, words: `${words}. One undo takes it all back.`, yes: `${doing.split(" ")[0]} ${count(images)}`, bad: word === "reject" });
  if (sure) decisions.decideAll(word, selection);
}

function tellCurrent() {
  const place = byId("actions-for");
  if (!place) return;
  const item = items.at(grid.current);
  byId("actions").classList.toggle("many", grid.selected.size > 0);
  place.textContent = grid.selected.size ? `${count(grid.selected.size)} selected` : item ? `#${item.rank}` : "";
}

const recount = debounced(() => countAgain().catch(() => {}), 400); // offline: the next decision counts again

let counts = 0;

async function countAgain() {
  const mine = ++counts;
  const [tally, scores] = await Promise.all([get(`/d/${dataset}/tally?version=${version}`), Scores.load(dataset, version)]);
  if (mine !== counts) return; // answers may overtake each other
  for (const [id, n] of [["n-clean", tally.clean], ["n-suspect", tally.suspect], ["n-kept", tally.kept], ["n-rejected", tally.rejected]]) byId(id).textContent = count(n);
  histogram.use(scores);
}

decisions.addEventListener("change", () => {
  grid.render();
  viewer.refresh();
  recount();
});
decisions.addEventListener("many", () => {
  items.reset().catch(complain);
  clusters.load().catch(complain);
});
decisions.outbox.addEventListener("change", () => {
  const waiting = decisions.outbox.entries().length;
  if (byId("outbox")) byId("outbox").textContent = waiting && (!navigator.onLine || waiting > 1) ? `${count(waiting)} not sent yet` : "";
});
addEventListener("offline", () => decisions.outbox.dispatchEvent(new Event("change")));

for (const button of document.querySelectorAll("[data-decide]")) button.addEventListener("click", () => decide(button.dataset.decide));
byId("undo")?.addEventListener("click", () => decisions.undo());
for (const button of document.querySelectorAll("[data-bulk]")) {
  button.addEventListener("click", async () => {
    button.closest("details").open = false;
    if (items.total === null) await items.load(0); // the number at hand is of the list before
    if (items.total === null) return;
    decideAll(button.dataset.bulk, filters.selection(), items.images, `All that fit: ${filters.inWords()}`);
  });
}
clusters.addEventListener("decide", ({ detail }) => decideAll(detail.word, { cluster: detail.cluster }, detail.images, `Group ${detail.cluster + 1} of look-alike suspects`));
clusters.addEventListener("open", (event) => filters.set({ show: "suspect", cluster: String(event.detail) }));

/* Looking */

grid.addEventListener("select", tellCurrent);
grid.addEventListener("quick", (event) => (event.detail === "open" ? viewer.open(grid.current) : decide(event.detail)));
viewer.addEventListener("move", () => grid.go(viewer.index, { focus: false }));
viewer.addEventListener("close", () => grid.go(grid.current));
byId("help").addEventListener("click", () => byId("keys").showModal());

byId("refused")?.addEventListener("click", (event) => {
  event.preventDefault();
  tellRefused(event.currentTarget).catch(complain);
});

async function tellRefused(link) {
  const { items: receipts, next_cursor: more } = await get(`${link.href}&limit=100`);
  const list = receipts.map(({ name, reason }) => `${name}: ${reason}`);
  const words = more ? "They are in no version. The first hundred:" : "They are in no version.";
  if (await ask({ title: `Refused files: ${link.textContent}`, words, list, yes: "All as JSON", no: "Close" })) location.assign(link.href);
}

async function openFromAddress() {
  const id = location.hash.slice(1);
  if (!/^[0-9a-f-]{36}$/.test(id)) return;
  const { rank } = await get(`/d/${dataset}/place/${id}?version=${version}`);
  if (location.hash.slice(1) !== id) return; // another was asked for meanwhile
  filters.set({ show: "", review: "", order: "suspect", cluster: "", q: "", folded: false });
  await items.load(0);
  await viewer.open(rank - 1);
}
addEventListener("hashchange", () => openFromAddress().catch(complain));

/* The cut, versions, jobs */

histogram.addEventListener("cut", () => {
  const moved = histogram.cut !== histogram.now;
  byId("cut-apply").disabled = !moved || !mayDecide;
  byId("cut-reset").disabled = !moved;
  grid.previewOf = moved ? (item) => histogram.verdict(item.score) : () => null;
  grid.render();
});
byId("cut-reset").addEventListener("click", () => histogram.set(histogram.now));
byId("cut-apply").addEventListener("click", () => start("recut", { cut_score: histogram.cut }));
byId("recut")?.addEventListener("click", () => start("recut", {}));
byId("repurify")?.addEventListener("click", async () => {
  const words = "Everything is scored again, with the decisions so far, as a new version; the present one stays. It can take minutes.";
  if (await ask({ title: "Purify again?", words, yes: "Re-purify" })) start("purifications", {});
});
byId("cancel")?.addEventListener("click", () => post(`/jobs/${byId("running").dataset.running}/cancel`).catch(complain));
byId("version").addEventListener("change", (event) => location.assign(`/d/${dataset}?version=${event.target.value}`));

async function start(what, options) {
  try {
    await followJob(await post(`/datasets/${dataset}/${what}`, { json: options }));
  } catch (error) {
    complain(error);
  }
}

/** A finished job that made a version leads to it. */
async function followJob(job) {
  const place = byId("running");
  place.hidden = false;
  place.dataset.running = job.id;
  if (job.kind) show(place, job);
  const done = await follow(job.id, (now) => show(place, now));
  place.hidden = true;
  if (done.state === "failed") complain(new Error(done.error?.detail ?? "The job failed."));
  else if (done.state === "succeeded" && ["purify", "recut"].includes(done.kind)) location.assign(`/d/${dataset}`);
}

bindKeys({ grid, viewer, filters, decide, undo: () => decisions.undo() });
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

narrow();
decisions.outbox.resume();
clusters.load().then(showClusters, complain);
countAgain().catch(complain);
if (byId("running").dataset.running) followJob({ id: byId("running").dataset.running }).catch(complain);
openFromAddress().catch(complain);
