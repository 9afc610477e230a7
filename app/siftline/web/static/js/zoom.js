// Zoom and pan of the large view: wheel, pinch, drag, buttons and keys.

const MOST = 24;
const CLOSE_UP = 3;

export class Zoom {
  #scale = 1;
  #x = 0;
  #y = 0;
  #pointers = new Map();

  constructor(stage, inner) {
    this.stage = stage;
    this.inner = inner;
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#zoomAt(event.clientX, event.clientY, Math.exp(-event.deltaY * 0.002));
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => this.#pointers.delete(event.pointerId));
    stage.addEventListener("dblclick", (event) => { if (!event.target.closest("button, input")) this.#scale > 1 ? this.fit() : this.#zoomAt(event.clientX, event.clientY, 3); });
  }

  fit() {
    [this.#scale, this.#x, this.#y] = [1, 0, 0];
    this.#apply();
  }

  by(factor) {
    const box = this.stage.getBoundingClientRect();
    this.#zoomAt(box.left + box.width / 2, box.top + box.height / 2, factor);
  }

  pan(dx, dy) {
    this.#x += dx;
    this.#y += dy;
    this.#apply();
  }

  get isIn() { return this.#scale > 1; }

  #down(event) {
    if (event.target.closest(".stage-tools")) return;
    this.#pointers.set(event.pointerId, event);
    this.stage.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, event);
    if (other) {
      const spread = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      this.#zoomAt((event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2, spread(event) / spread(before));
    } else {
      this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
    }
  }

  /** The point under the pointer stays under it. */
  #zoomAt(clientX, clientY, factor) {
    const box = this.stage.getBoundingClientRect();
    const scale = Math.min(Math.max(this.#scale * factor, 1), MOST);
    const [x, y] = [clientX - box.left, clientY - box.top];
    this.#x = x - ((x - this.#x) * scale) / this.#scale;
    this.#y = y - ((y - this.#y) * scale) / this.#scale;
    this.#scale = scale;
    this.#apply();
  }

  #apply() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    this.#x = Math.min(0, Math.max(this.#x, width * (1 - this.#scale)));
    this.#y = Math.min(0, Math.max(this.#y, height * (1 - this.#scale)));
    this.inner.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`;
    this.inner.classList.toggle("close-up", this.#scale > CLOSE_UP);
  }
}
