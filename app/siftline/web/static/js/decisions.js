// Keep, reject, clear, undo: shown at once, sent one by one, and put right when somebody else was faster.
import { get } from "./api.js";
import { ask } from "./ask.js";
import { plural } from "./dom.js";
import { Outbox } from "./outbox.js";
import { complain, say } from "./toast.js";

const DONE = { keep: "Kept", reject: "Rejected", clear: "Cleared" };
const LOOK_EVERY_MS = 5000;
const MOST_AT_ONCE = 10_000; // schemas.MOST_DECISIONS

export class Decisions extends EventTarget {
  #batches = []; // of this window: { id, revision, before }, so that undo shows at once what comes back

  constructor({ dataset, version, who, revision }) {
    super();
    Object.assign(this, { dataset, version, who, seen: revision, items: null });
    this.outbox = new Outbox(dataset, who, {
      onAnswer: (entry, batch) => this.#answered(entry, batch),
      onConflict: (entry) => this.#contested(entry),
      onDropped: (entry) => this.#yield(entry),
      onRefused: (entry, problem) => { complain(problem); return this.#yield(entry); },
    });
    setInterval(() => { if (document.visibilityState === "visible") this.catchUp().catch(() => {}); }, LOOK_EVERY_MS);
  }

  /** What is decided or undone here and not yet there: fields to lay over the server's. */
  pendingOf(imageId) {
    for (const entry of this.outbox.entries().reverse()) {
      if (entry.brings?.[imageId]) return { ...entry.brings[imageId], pending: false };
      const decision = entry.body.decisions?.find((one) => one.image_id === imageId)?.decision;
      if (decision) return this.#fields(decision);
    }
    return {};
  }

  #fields(decision) {
    return { review: decision === "clear" ? null : decision, reviewed_by: this.who, reviewed_at: new Date().toISOString(), pending: true };
  }

  /** One word on these images; near-duplicates come with the card that stands for them. */
  decide(word, imageIds) {
    if (imageIds.length > MOST_AT_ONCE) return say("Too many to name one by one: use “All of these” with a filter", { bad: true });
    const before = {};
    for (const id of imageIds) {
      const item = this.items.find(id);
      if (item) before[id] = { review: item.review, reviewed_by: item.reviewed_by, reviewed_at: item.reviewed_at };
      this.items.patch(id, this.#fields(word));
    }
    this.#changed();
    this.outbox.add({ kind: "reviews", body: { decisions: imageIds.map((image_id) => ({ image_id, decision: word })) }, revision: this.seen, before });
    if (imageIds.length > 1) say(`${DONE[word]} ${plural(imageIds.length, "image")}`);
    return undefined;
  }

  /** One word on all images that fit. */
  decideAll(word, filter) {
    this.outbox.add({ kind: "reviews", body: { filter: { version: this.version, ...filter }, decision: word }, revision: this.seen, before: {} });
  }

  undo() {
    const newest = this.outbox.newest();
    if (newest && !newest.sent) {
      this.outbox.remove(newest.entry);
      this.#yield(newest.entry);
      say("Taken back before it was sent");
      return;
    }
    // One that is on its way has no batch yet: the outbox names it when it is answered.
    const known = newest ? { before: newest.entry.before } : this.#batches.pop();
    this.#restore(known?.before);
    this.outbox.add({ kind: "undo", of: newest?.entry.key, brings: known?.before, body: known?.id ? { batch_id: known.id } : {}, from: known?.revision });
  }

  #restore(before = {}) {
    for (const [id, fields] of Object.entries(before)) this.items.patch(id, { ...fields, pending: false });
    this.#changed();
  }

  async #answered(entry, batch) {
    if (entry.kind === "undo") say(`Undone: ${plural(batch.images, "image")}`);
    else if (!this.outbox.entries().some((one) => one.of === entry.key)) this.#batches.push({ id: batch.id, revision: batch.revision, before: entry.before });
    if (entry.kind === "reviews" && entry.body.decisions && batch.revision === this.seen + 1) {
      for (const { image_id: id } of entry.body.decisions) this.items.patch(id, { pending: false, reviewed_by: batch.by, reviewed_at: batch.at });
      this.seen = batch.revision; // nobody else came in between: nothing to read
    } else {
      // Somebody else came in between, or the answer is one that was lost before: what stands now, these included.
      // After an undo, also what it left alone because somebody has decided anew.
      await this.lookAgainFrom(Math.min(batch.revision - 1, entry.from ?? batch.revision)).catch(() => {});
    }
    if (entry.body.filter) {
      say(`${DONE[entry.body.decision]} ${plural(batch.images, "image")}`);
      this.dispatchEvent(new Event("many"));
    }
    this.#changed();
  }

  /** Somebody else decided otherwise about the same images since they were looked at here. */
  async #contested(entry) {
    const changes = await get(`/d/${this.dataset}/changes?since=${entry.revision}`);
    const mine = new Set(entry.body.decisions?.map((one) => one.image_id));
    const theirs = changes.images.filter((one) => (entry.body.filter || mine.has(one.image_id)) && one.reviewed_by !== this.who);
    const word = entry.body.decision ?? entry.body.decisions[0].decision;
    const useMine = await ask({
      title: "Somebody else was faster",
      words: `You said “${word}”. Meanwhile:`,
      list: theirs.slice(0, 20).map((one) => `${this.items.find(one.image_id)?.name ?? one.image_id}: ${one.review ?? "clear"}${one.reviewed_by ? `, ${one.reviewed_by}` : ""}`),
      yes: "Use mine",
      no: "Leave theirs",
    });
    return useMine ? "again" : "drop";
  }

  /** What stands, instead of what was said here; `before` may be old by now. */
  async #yield(entry) {
    this.#restore(entry.before);
    await this.lookAgainFrom(entry.revision ?? entry.from ?? this.seen).catch(() => {}); // offline: the next look
  }

  /** Something shown here is as it stood at `revision`. Whether or not this look succeeds, the next begins no later. */
  async lookAgainFrom(revision) {
    this.seen = Math.min(this.seen, revision);
    await this.catchUp();
  }

  /** What others, and other windows, have decided. */
  async catchUp() {
    const since = this.seen;
    const changes = await get(`/d/${this.dataset}/changes?since=${since}`);
    if (changes.revision === since || changes.revision < this.seen) return; // nothing new, or overtaken by what is newer
    for (const { image_id: id, ...fields } of changes.images) this.items.patch(id, { pending: false, ...fields, ...this.pendingOf(id) });
    if (since <= this.seen) this.seen = Math.max(this.seen, changes.revision); // else something older has come meanwhile
    if (!changes.complete) this.dispatchEvent(new Event("many"));
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
