// The ranked list as the server holds it, of which stretches are loaded when they are looked at.
import { get } from "./api.js";

const PAGE = 100;
const MOST_PAGES = 60;

export class Items extends EventTarget {
  #pages = new Map(); // page number → array of items; insertion order is age
  #asked = new Map();
  #abort = new AbortController();
  #byId = new Map();

  constructor(dataset, version, overlay) {
    super();
    this.dataset = dataset;
    this.version = version;
    this.overlay = overlay; // decisions that are not sent yet, on top of what the server says
    this.query = new URLSearchParams();
    this.total = null;
    this.images = 0;
  }

  /** Another question: forget what was loaded, and load its beginning. */
  reset(query = this.query) {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#pages.clear();
    this.#asked.clear();
    this.#byId.clear();
    this.query = query;
    this.total = null;
    return this.load(0);
  }

  at(index) {
    return this.#pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  find(imageId) {
    return this.#byId.get(imageId);
  }

  loaded() {
    return [...this.#pages].sort(([a], [b]) => a - b).flatMap(([, items]) => items);
  }

  /** Load what is missing of cards `from`…`to`. */
  want(from, to) {
    for (let page = Math.floor(from / PAGE); page <= Math.floor(to / PAGE); page += 1) {
      if (!this.#pages.has(page)) this.load(page).catch(() => {});
    }
  }

  load(page) {
    if (!this.#asked.has(page)) this.#asked.set(page, this.#fetch(page, this.#abort.signal).finally(() => this.#asked.delete(page)));
    return this.#asked.get(page);
  }

  async #fetch(page, signal) {
    const query = new URLSearchParams(this.query);
    query.set("version", this.version);
    query.set("offset", page * PAGE);
    query.set("limit", PAGE);
    let found;
    try {
      found = await get(`/d/${this.dataset}/items?${query}`, { signal });
    } catch (error) {
      if (!signal.aborted) this.dispatchEvent(new CustomEvent("fault", { detail: error }));
      return;
    }
    if (signal.aborted) return;
    this.total = found.total;
    this.images = found.images;
    this.#keep(page, found.items);
    this.dispatchEvent(new CustomEvent("change", { detail: { revision: found.revision } }));
  }

  #keep(page, items) {
    for (const item of items) this.#byId.set(item.image_id, Object.assign(item, this.overlay(item.image_id)));
    this.#pages.set(page, items);
    if (this.#pages.size > MOST_PAGES) this.#drop(this.#pages.keys().next().value);
  }

  #drop(page) {
    for (const item of this.#pages.get(page)) this.#byId.delete(item.image_id);
    this.#pages.delete(page);
  }

  /** Change what is known of an image, if it is loaded. */
  patch(imageId, fields) {
    const item = this.#byId.get(imageId);
    if (item) Object.assign(item, fields);
  }
}
