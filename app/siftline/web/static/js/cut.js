// What a cut would do, told from the scores alone: images with a higher score are suspect, unless people decided.
import { get } from "./api.js";

export class Scores {
  /** `services.gallery.scores` says what the bytes are. */
  static async load(dataset, version) {
    const buffer = await get(`/d/${dataset}/scores?version=${version}`, { as: "buffer" });
    const [open, kept, rejected] = new Uint32Array(buffer, 0, 3);
    const scores = new Float32Array(buffer, 12);
    return new Scores(scores.subarray(0, open), scores.subarray(open, open + kept), scores.subarray(open + kept, open + kept + rejected));
  }

  /** Each descending. */
  constructor(open, kept, rejected) {
    Object.assign(this, { open, kept, rejected });
    const ends = [open, kept, rejected].filter((part) => part.length).flatMap((part) => [part[0], part.at(-1)]);
    this.hi = Math.max(...ends);
    this.lo = Math.min(...ends);
  }

  get total() { return this.open.length + this.kept.length + this.rejected.length; }

  /** Undecided images above a cut. */
  above(cut) {
    let low = 0;
    let high = this.open.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.open[middle] > cut) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The cut that leaves `wanted` undecided images suspect; fewer where several have one score. */
  leaving(wanted) {
    const n = Math.min(Math.max(wanted, 0), this.open.length);
    if (n < this.open.length) return this.open[n];
    return this.lo - (this.hi - this.lo || 1) * 1e-3;
  }

  /** The next cut up (+1) or down (-1) that moves any image at all. */
  next(cut, direction) {
    const now = this.above(cut);
    let wanted = now - direction;
    while (wanted >= 0 && wanted <= this.open.length) {
      const next = this.leaving(wanted);
      if (this.above(next) !== now) return next;
      wanted -= direction;
    }
    return cut;
  }

  /** Images in each of `bins` equal steps from lo to hi. */
  histogram(bins) {
    const counts = new Array(bins).fill(0);
    const step = (this.hi - this.lo) / bins || 1;
    for (const part of [this.open, this.kept, this.rejected]) {
      for (const score of part) counts[Math.min(bins - 1, Math.floor((score - this.lo) / step))] += 1;
    }
    return counts;
  }
}
