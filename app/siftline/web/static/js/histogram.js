// The histogram with a cut that can be dragged by mouse, finger and keys.
import { count, figure, plural, svg } from "./dom.js";

const FOOT_PX = 18;
const BIN_PX = 7;
const TICKS = 6;

export class Histogram extends EventTarget {
  constructor(element, readout, cut) {
    super();
    this.element = element;
    this.readout = readout;
    this.picture = element.querySelector("svg");
    this.handle = element.querySelector(".handle");
    this.now = Math.fround(cut); // scores are float32, and a score that equals the cut is clean
    this.cut = this.now;
    this.scores = null;
    new ResizeObserver(() => this.draw()).observe(element);
    this.#listen();
  }

  use(scores) {
    this.scores = scores;
    this.draw();
  }

  get moved() {
    return this.scores ? this.scores.above(this.cut) - this.scores.above(this.now) : 0;
  }

  set(cut) {
    this.cut = Math.fround(cut);
    this.draw();
    this.dispatchEvent(new Event("cut"));
  }

  /** The verdict an undecided image of this score would get. */
  verdict(score) {
    return Math.fround(score) > this.cut ? "suspect" : "clean";
  }

  #x(score) {
    const { lo, hi } = this.scores;
    return hi > lo ? ((score - lo) / (hi - lo)) * this.element.clientWidth : 0;
  }

  draw() {
    if (!this.scores || !this.scores.total) return;
    const width = this.element.clientWidth;
    const height = this.element.clientHeight - FOOT_PX;
    const bins = Math.max(20, Math.floor(width / BIN_PX));
    const counts = this.scores.histogram(bins);
    const tallest = Math.sqrt(Math.max(...counts)); // a square root scale: the few suspects must be seen, too
    const { lo, hi } = this.scores;
    const middle = (bin) => lo + ((bin + 0.5) / bins) * (hi - lo);
    const bars = counts.map((n, bin) => n && this.#bar(bin, bins, width, height, Math.sqrt(n) / tallest, middle(bin)));
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height + FOOT_PX}`);
    this.picture.replaceChildren(
      ...bars.filter(Boolean),
      svg("line", { class: "axis", x1: 0, x2: width, y1: height, y2: height }),
      ...this.#ticks(width, height),
      ...(this.cut === this.now ? [] : [svg("line", { class: "was", x1: this.#x(this.now), x2: this.#x(this.now), y1: 0, y2: height })]),
    );
    this.#place();
  }

  #bar(bin, bins, width, height, share, score) {
    const moves = (score > this.cut) !== (score > this.now);
    const kind = moves ? "bar moves" : score > this.cut ? "bar over" : "bar";
    const tall = Math.max(1.5, share * (height - 4));
    return svg("rect", { class: kind, x: (bin / bins) * width + 0.5, y: height - tall, width: Math.max(1, width / bins - 1), height: tall, rx: 1 });
  }

  #ticks(width, height) {
    const { lo, hi } = this.scores;
    const ticks = Math.min(TICKS, Math.max(2, Math.floor(width / 90)));
    return Array.from({ length: ticks }, (_, i) => {
      const x = (i / (ticks - 1)) * width;
      const anchor = i === 0 ? "start" : i === ticks - 1 ? "end" : "middle";
      return svg("text", { x, y: height + 13, "text-anchor": anchor }, tick(lo + (i / (ticks - 1)) * (hi - lo), hi - lo));
    });
  }

  #place() {
    const { lo, hi } = this.scores;
    const suspects = this.scores.above(this.cut);
    const x = Math.min(Math.max(this.#x(this.cut), 0), this.element.clientWidth);
    this.handle.style.left = `${x}px`;
    this.handle.setAttribute("aria-valuemin", lo);
    this.handle.setAttribute("aria-valuemax", hi);
    this.handle.setAttribute("aria-valuenow", Math.min(Math.max(this.cut, lo), hi));
    this.handle.setAttribute("aria-valuetext", `${figure(this.cut)}: ${plural(suspects, "suspect")}, ${this.#movedInWords()}`);
    const decided = this.scores.kept.length + this.scores.rejected.length;
    const stay = decided ? ` ${count(decided)} decided by people stay as they are.` : "";
    this.readout.replaceChildren(strong(plural(suspects, "image")), ` above ${figure(this.cut)}; ${this.#movedInWords()}.${stay}`);
  }

  #movedInWords() {
    const { moved } = this;
    if (!moved) return this.cut === this.now ? "the present cut" : "no image moves";
    return `${plural(Math.abs(moved), "image")} ${Math.abs(moved) === 1 ? "moves" : "move"} to ${moved > 0 ? "suspect" : "clean"}`;
  }

  #listen() {
    const drag = (event) => {
      const box = this.element.getBoundingClientRect();
      const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
      this.set(this.scores.lo + share * (this.scores.hi - this.scores.lo));
    };
    this.element.addEventListener("pointerdown", (event) => {
      if (!this.scores || event.button !== 0) return;
      if (event.pointerType === "touch" && !event.target.closest(".handle")) return; // there a finger scrolls
      event.preventDefault();
      this.handle.focus({ preventScroll: true });
      this.element.setPointerCapture(event.pointerId);
      drag(event);
      const stop = () => this.element.removeEventListener("pointermove", drag);
      this.element.addEventListener("pointermove", drag);
      for (const end of ["pointerup", "pointercancel"]) this.element.addEventListener(end, stop, { once: true });
    });
    this.handle.addEventListener("keydown", (event) => {
      const to = this.scores && this.#byKey(event);
      if (to === null || to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.set(to);
    });
  }

  /** Keys move images, not pixels: one by one, ten by ten, all. */
  #byKey({ key, shiftKey }) {
    const { scores, cut } = this;
    const suspects = scores.above(cut);
    const many = shiftKey ? 10 : 1;
    switch (key) {
      case "ArrowRight": case "ArrowUp": return many === 1 ? scores.next(cut, 1) : scores.leaving(suspects - many);
      case "ArrowLeft": case "ArrowDown": return many === 1 ? scores.next(cut, -1) : scores.leaving(suspects + many);
      case "PageUp": return scores.leaving(suspects - 10);
      case "PageDown": return scores.leaving(suspects + 10);
      case "Home": return scores.leaving(scores.open.length);
      case "End": return scores.leaving(0);
      case "Escape": return this.now;
      default: return null;
    }
  }
}

/** As many decimals as the whole range deserves. */
const tick = (value, range) => value.toFixed(range > 50 ? 0 : range > 2 ? 1 : range > 0.2 ? 2 : 4).replace(/^-(0\.?0*)$/, "$1");

function strong(words) {
  const element = document.createElement("b");
  element.textContent = words;
  return element;
}
