// Decisions on their way to the server. Each lies in localStorage until the server has answered, so that neither a
// dropped connection nor a closed window loses one; each has an Idempotency-Key, so that sending it twice does no harm.
import { Problem, isUnreachable, onceKey, post } from "./api.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
let last = 0;

export class Outbox extends EventTarget {
  #sending = false;
  #pauseMs = FIRST_PAUSE_MS;
  #timer = 0;

  /** What follows: `onAnswer(entry, batch)`, `onConflict(entry)` → "again" or "drop", `onDropped(entry)`, `onRefused(entry, problem)`. */
  constructor(dataset, who, { onAnswer, onConflict, onDropped, onRefused }) {
    super();
    this.dataset = dataset;
    this.prefix = `siftline.outbox.${dataset}.${encodeURIComponent(who)}/`; // the next at this screen signs nothing of it
    Object.assign(this, { onAnswer, onConflict, onDropped, onRefused });
    addEventListener("online", () => this.#now());
    addEventListener("storage", (event) => { if (event.key?.startsWith(this.prefix)) this.#tell(); });
  }

  /** Oldest first. */
  entries() {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(this.prefix)).sort();
    return keys.map((key) => ({ key, ...JSON.parse(localStorage.getItem(key)) }));
  }

  add(entry) {
    last = Math.max(Date.now(), last + 1);
    const key = `${this.prefix}${String(last).padStart(15, "0")}`;
    localStorage.setItem(key, JSON.stringify({ once: onceKey(), ...entry }));
    this.#tell();
    this.#now();
  }

  /** The newest entry if it is a decision, and whether it is on its way: too late to remove it. */
  newest() {
    const waiting = this.entries();
    const entry = waiting.at(-1);
    return entry?.kind === "reviews" ? { entry, sent: this.#sending && waiting.length === 1 } : undefined;
  }

  /** The undos (`of`) of an entry that was on its way name its batch from now on, or go with it where it made none. */
  #tellUndos(entry, batch) {
    for (const { key, ...undo } of this.entries().filter((one) => one.of === entry.key)) {
      if (batch) localStorage.setItem(key, JSON.stringify({ ...undo, body: { batch_id: batch.id }, from: batch.revision }));
      else localStorage.removeItem(key);
    }
  }

  resume() {
    this.#tell();
    this.#now();
  }

  remove(entry) {
    localStorage.removeItem(entry.key);
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }

  #now() {
    clearTimeout(this.#timer);
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#drain();
  }

  async #drain() {
    if (this.#sending) return;
    this.#sending = true;
    try {
      // One window sends at a time. Locks are missing where there is no TLS; then the keys alone keep order.
      if (navigator.locks) await navigator.locks.request(this.prefix, () => this.#sendAll());
      else await this.#sendAll();
    } finally {
      this.#sending = false;
      this.#tell();
    }
  }

  async #sendAll() {
    for (let entry; (entry = this.entries()[0]); ) {
      try {
        const batch = await this.#send(entry);
        this.#tellUndos(entry, batch);
        this.remove(entry);
        await this.onAnswer(entry, batch);
        this.#pauseMs = FIRST_PAUSE_MS;
      } catch (error) {
        if (await this.#fails(entry, error)) return;
      }
    }
  }

  #send(entry) {
    const headers = { "Idempotency-Key": entry.once };
    if (entry.revision !== undefined) headers["If-Match"] = `"${entry.revision}"`;
    const path = `/datasets/${this.dataset}/reviews${entry.kind === "undo" ? "/undo" : ""}`;
    return post(path, { json: entry.body, headers });
  }

  /** Whether to stop sending for now. */
  async #fails(entry, error) {
    if (isUnreachable(error) || (error instanceof Problem && (error.status >= 500 || error.status === 429))) {
      return this.#pause(error.retryAfterS ?? 0);
    }
    if (!(error instanceof Problem) || error.status === 401) throw error;
    const word = error.status === 412 ? await this.onConflict(entry).catch(() => "later") : "drop";
    if (word === "later") return this.#pause(0); // what stands could not be read
    if (word === "again") {
      const { key, revision, ...rest } = entry; // theirs was seen: no condition any more, and a new request
      localStorage.setItem(key, JSON.stringify({ ...rest, once: onceKey() }));
      return false;
    }
    this.#tellUndos(entry, null);
    this.remove(entry);
    await (error.status === 412 ? this.onDropped(entry) : this.onRefused(entry, error));
    return false;
  }

  #pause(atLeastS) {
    this.#timer = setTimeout(() => this.#drain(), Math.max(this.#pauseMs, 1000 * atLeastS));
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
    return true;
  }
}
