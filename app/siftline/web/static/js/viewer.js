// The large view of one image of the list.
import { get, post } from "./api.js";
import { effective } from "./card.js";
import { byId, count, figure, h, moment, percent, plural } from "./dom.js";
import { explain } from "./explain.js";
import { follow } from "./live.js";
import { complain, say } from "./toast.js";
import { Zoom } from "./zoom.js";

const SAID = { keep: "Kept", reject: "Rejected", clear: "Cleared" };

export class Viewer extends EventTarget {
  #abort = new AbortController();
  #asked = 0;

  constructor(items, { dataset, version }) {
    super();
    Object.assign(this, { items, dataset, version, index: 0, item: null });
    this.dialog = byId("viewer");
    this.image = byId("stage-image");
    this.heat = byId("stage-heat");
    this.box = null;
    this.zoom = new Zoom(byId("stage"), byId("stage-inner"));
    const opacity = byId("heat-opacity");
    const blend = () => { this.heat.style.opacity = opacity.value; };
    opacity.addEventListener("input", blend);
    this.toggleHeat = () => {
      [opacity.value, this.shownAt] = opacity.value > 0 ? [0, opacity.value] : [this.shownAt ?? 0.4, 0];
      blend();
    };
    blend();
    this.image.addEventListener("error", () => { if (this.item && !this.image.src.endsWith("/thumbnail")) this.image.src = this.item.thumbnail_url; }); // TIFF and the like
    this.image.addEventListener("load", () => this.#placeBox());
    new ResizeObserver(() => this.#placeBox()).observe(byId("stage"));
    this.dialog.addEventListener("click", (event) => this.#clicked(event));
    this.dialog.addEventListener("close", () => this.dispatchEvent(new Event("close")));
  }

  get isOpen() { return this.dialog.open; }

  async open(index) {
    if (!this.items.total) return;
    this.index = Math.min(Math.max(index, 0), this.items.total - 1);
    if (!this.dialog.open) {
      this.dialog.showModal();
      byId("stage").focus();
    }
    if (!this.items.at(this.index)) await this.items.load(Math.floor(this.index / 100));
    const item = this.items.at(this.index);
    if (!item || item === this.item) return this.refresh();
    this.show(item);
    this.dispatchEvent(new Event("move"));
  }

  show(item) {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.item = item;
    this.box = null;
    this.#placeBox();
    this.zoom.fit();
    showAnew(this.image, `/images/${item.image_id}/content`);
    this.image.alt = item.name;
    showAnew(this.heat, `${item.heatmap_url}&overlay=false`);
    byId("viewer-original").href = `/images/${item.image_id}/content`;
    byId("viewer-name").textContent = item.name;
    byId("viewer-place").textContent = `${count(this.index + 1)} of ${count(this.items.total)}`;
    byId("miss-found")?.replaceChildren();
    byId("viewer-signals").replaceChildren(...pairs(Object.entries(item.signals).map(([name, value]) => [name.replaceAll("_", " "), figure(value)])));
    this.#twins(item);
    this.refresh();
    this.#explain(item, this.#abort.signal);
  }

  /** What decisions change. */
  refresh() {
    if (this.item) this.item = this.items.find(this.item.image_id) ?? this.item; // the list may have been read anew
    const { item } = this;
    if (!item || !this.isOpen) return;
    const machine = `${percent(item.p_anomalous)} chance that it is bad`;
    byId("viewer-verdict").textContent = item.review ? `${SAID[item.review]} by ${item.reviewed_by}` : `${effective(item) === "suspect" ? "Suspect" : "Clean"}, ${machine}`;
    byId("viewer-facts").replaceChildren(...pairs([
      ["Rank", `${count(item.rank)}`],
      ["Score", figure(item.score)],
      ["Chance it is bad", `${percent(item.p_anomalous)} (${percent(item.interval[0])} to ${percent(item.interval[1])})`],
      ["Machine's verdict", item.verdict + (item.needs_review ? ", needs review" : "")],
      ["Confidence", percent(item.confidence)],
      ...(item.cluster === null ? [] : [["Group", item.cluster + 1]]),
    ]));
    for (const button of this.dialog.querySelectorAll(".viewer-decide [data-decide]")) {
      button.setAttribute("aria-pressed", item.review === button.dataset.decide);
    }
    const miss = byId("miss");
    if (miss) miss.hidden = effective(item) !== "clean";
    this.#history(item);
  }

  async #history(item) {
    const mine = ++this.#asked;
    let said = [];
    try {
      said = await get(`/d/${this.dataset}/history/${item.image_id}`, { signal: this.#abort.signal });
    } catch { /* shown as undecided; the list itself still knows */ }
    if (mine !== this.#asked) return; // answers may overtake each other
    const lines = said.map((one) => h("li", {}, h("b", {}, one.undo ? `Undone, ${SAID[one.decision].toLowerCase()} again` : SAID[one.decision]), ` by ${one.by}, ${moment(one.at)}`));
    byId("viewer-history").replaceChildren(...(lines.length ? lines : [h("li", { class: "hint" }, "Nobody has decided yet.")]));
  }

  async #explain(item, signal) {
    const box = await explain(item, this.version, signal);
    if (signal.aborted) return;
    this.box = box;
    this.#placeBox();
  }

  #placeBox() {
    const mark = byId("stage-box");
    mark.hidden = !this.box || !this.image.naturalWidth;
    if (mark.hidden) return;
    const { clientWidth, clientHeight } = byId("stage");
    const scale = Math.min(clientWidth / this.image.naturalWidth, clientHeight / this.image.naturalHeight);
    const [width, height] = [this.image.naturalWidth * scale, this.image.naturalHeight * scale];
    const { left, top, right, bottom } = this.box;
    mark.style.left = `${(clientWidth - width) / 2 + left * width}px`;
    mark.style.top = `${(clientHeight - height) / 2 + top * height}px`;
    mark.style.width = `${(right - left) * width}px`;
    mark.style.height = `${(bottom - top) * height}px`;
  }

  #twins(item) {
    byId("twins").hidden = !item.near_duplicates.length;
    byId("twins-shown").replaceChildren(...item.near_duplicates.slice(0, 12).map(thumb));
  }

  key(event) {
    const { key } = event;
    if (key === "ArrowRight" || key === "ArrowLeft") {
      if (event.target.matches("input[type=range]")) return false;
      this.step(key === "ArrowRight" ? 1 : -1);
    } else if (key === "+" || key === "=") this.zoom.by(1.5);
    else if (key === "-") this.zoom.by(1 / 1.5);
    else if (key === "0") this.zoom.fit();
    else if (key === "h") this.toggleHeat();
    else return false;
    return true;
  }

  step(by) {
    return this.open(this.index + by);
  }

  #clicked(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const { viewer, zoom } = button.dataset;
    if (viewer === "close") this.dialog.close();
    else if (viewer) this.step(viewer === "next" ? 1 : -1);
    else if (zoom === "fit") this.zoom.fit();
    else if (zoom) this.zoom.by(zoom === "in" ? 1.5 : 1 / 1.5);
    else if (button.id === "miss-report") this.#reportMiss(button);
  }

  async #reportMiss(button) {
    const { item } = this;
    button.disabled = true;
    try {
      const asked = await post(`/datasets/${this.dataset}/misses`, { json: { image_id: item.image_id } });
      const job = await follow(asked.id);
      const similar = job.result?.similar ?? [];
      if (job.state !== "succeeded") throw new Error(job.error?.detail ?? "The search did not end well.");
      say(similar.length ? `${plural(similar.length, "image")} ${similar.length === 1 ? "looks" : "look"} like it` : "Nothing else looks like it");
      if (item.image_id === this.item.image_id) byId("miss-found").replaceChildren(...similar.slice(0, 24).map((one) => thumb(one.image_id, `${one.name}, ${percent(one.similarity)} alike`)));
    } catch (error) {
      complain(error);
    } finally {
      button.disabled = false;
    }
  }
}

const pairs = (list) => list.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);

/** Another picture. The old one goes at once: else it stays in sight under the new one's name until that has come. */
function showAnew(image, src) {
  image.removeAttribute("src");
  image.src = src;
}

function thumb(imageId, words = "Near-duplicate") {
  const name = typeof words === "string" ? words : "Near-duplicate";
  return h("a", { href: `#${imageId}`, title: name }, h("img", { src: `/images/${imageId}/thumbnail`, alt: name, loading: "lazy" }));
}
