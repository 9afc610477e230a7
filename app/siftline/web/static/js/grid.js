// The gallery: only rows in sight exist, however long the list. A row is placed by its number times its height.
import { fillCard, makeCard, warm } from "./card.js";
import { h } from "./dom.js";

const NARROWEST_PX = 158;
const GAP_PX = 10;
const CAPTION_PX = 46;
const SPARE_ROWS = 2;

export class Grid extends EventTarget {
  #rows = new Map(); // row number → element
  #columns = 1;
  #rowPx = 200;
  #due = false;
  #aspect = 4 / 3;

  constructor(element, items, aspect) {
    super();
    this.#aspect = aspect;
    this.element = element;
    this.items = items;
    this.current = 0;
    this.anchor = 0;
    this.selected = new Set(); // image ids
    this.previewOf = () => null;
    this.hot = false;
    items.addEventListener("change", () => this.render());
    addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.#measure()).observe(element);
    this.#listen();
  }

  /** Another list: begin at its top. */
  restart() {
    this.current = this.anchor = 0;
    this.selected.clear();
    this.element.setAttribute("aria-busy", "true");
    const top = this.element.getBoundingClientRect().top + scrollY - 70;
    if (scrollY > top) scrollTo(0, top);
  }

  #measure() {
    const width = this.element.clientWidth;
    this.#columns = Math.max(2, Math.floor((width + GAP_PX) / (NARROWEST_PX + GAP_PX)));
    const cell = (width - GAP_PX * (this.#columns - 1)) / this.#columns;
    this.#rowPx = Math.round(cell / this.#aspect) + CAPTION_PX + GAP_PX;
    this.element.style.setProperty("--columns", this.#columns);
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
    this.render();
  }

  #soon() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => { this.#due = false; this.render(); });
  }

  render() {
    const { total } = this.items;
    this.element.hidden = total === 0;
    if (total === null) return;
    const count = Math.ceil(total / this.#columns);
    this.element.style.height = `${count * this.#rowPx}px`;
    this.element.setAttribute("aria-rowcount", count);
    this.element.setAttribute("aria-colcount", this.#columns);
    this.element.setAttribute("aria-busy", "false");
    if (this.current >= total) this.current = Math.max(0, total - 1);
    const above = -this.element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / this.#rowPx) - SPARE_ROWS);
    const last = Math.min(count - 1, Math.ceil((above + innerHeight) / this.#rowPx) + SPARE_ROWS);
    if (last >= first) this.items.want(first * this.#columns, Math.min(total, (last + 1) * this.#columns) - 1);
    const wanted = new Set([Math.floor(this.current / this.#columns)]); // a row with the focus must not vanish
    for (let row = first; row <= last; row += 1) wanted.add(row);
    for (const [row, element] of this.#rows) if (!wanted.has(row) || row >= count) { element.remove(); this.#rows.delete(row); }
    for (const row of [...wanted].sort((a, b) => a - b)) if (row < count) this.#renderRow(row, total);
  }

  #renderRow(row, total) {
    let element = this.#rows.get(row);
    if (!element) {
      element = h("div", { class: "grid-row", role: "row", "aria-rowindex": row + 1 });
      element.style.height = `${this.#rowPx - GAP_PX}px`;
      element.style.transform = `translateY(${row * this.#rowPx}px)`;
      this.#rows.set(row, element);
      const next = [...this.#rows.keys()].filter((other) => other > row).sort((a, b) => a - b)[0];
      this.element.insertBefore(element, next === undefined ? null : this.#rows.get(next));
    }
    const cells = Math.min(this.#columns, total - row * this.#columns);
    while (element.childElementCount < cells) element.append(makeCard());
    while (element.childElementCount > cells) element.lastElementChild.remove();
    for (let column = 0; column < cells; column += 1) this.#renderCell(element.children[column], row * this.#columns + column, column);
  }

  #renderCell(card, index, column) {
    const item = this.items.at(index);
    const view = { column, current: index === this.current, selected: Boolean(item && this.selected.has(item.image_id)), preview: item && this.previewOf(item) };
    fillCard(card, item, index, view);
    if (this.hot) warm(card, item);
  }

  cardAt(index) {
    return this.#rows.get(Math.floor(index / this.#columns))?.children[index % this.#columns];
  }

  setHot(hot) {
    this.hot = hot;
    this.element.classList.toggle("hot", hot);
    this.render();
  }

  /** Make a card the current one, show it, and give it the focus. */
  go(index, { select = false, focus = true } = {}) {
    if (!this.items.total) return;
    const to = Math.min(Math.max(index, 0), this.items.total - 1);
    this.current = to;
    if (select) this.#selectRange(this.anchor, to);
    else this.anchor = to;
    this.#show(Math.floor(to / this.#columns));
    this.render();
    if (focus) this.cardAt(to)?.focus({ preventScroll: true });
    this.#tell();
  }

  #show(row) {
    const top = this.element.getBoundingClientRect().top + row * this.#rowPx;
    const under = 64; // the filters stay on top
    const over = innerHeight - 96; // the actions at the bottom
    if (top < under) scrollBy(0, top - under);
    else if (top + this.#rowPx > over) scrollBy(0, top + this.#rowPx - over);
  }

  step(key, options) {
    const page = Math.max(1, Math.floor((innerHeight - 160) / this.#rowPx)) * this.#columns;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.#columns, ArrowDown: this.#columns, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    if (!(key in steps)) return false;
    this.go(this.current + steps[key], options);
    return true;
  }

  toggle(index = this.current) {
    const item = this.items.at(index);
    if (!item) return;
    if (!this.selected.delete(item.image_id)) this.selected.add(item.image_id);
    this.anchor = index;
    this.render();
    this.#tell();
  }

  selectLoaded() {
    for (const item of this.items.loaded()) this.selected.add(item.image_id);
    this.render();
    this.#tell();
  }

  selectNone() {
    this.selected.clear();
    this.render();
    this.#tell();
  }

  #selectRange(from, to) {
    this.selected.clear();
    for (let i = Math.min(from, to); i <= Math.max(from, to); i += 1) {
      const item = this.items.at(i);
      if (item) this.selected.add(item.image_id);
    }
  }

  #tell() {
    this.dispatchEvent(new Event("select"));
  }

  #listen() {
    const indexOf = (event) => {
      const card = event.target.closest(".card");
      return card ? Number(card.dataset.index) : null;
    };
    this.element.addEventListener("click", (event) => {
      const index = indexOf(event);
      if (index === null) return;
      const quick = event.target.closest("[data-quick]");
      if (quick) {
        this.go(index, { focus: false });
        this.dispatchEvent(new CustomEvent("quick", { detail: quick.dataset.quick }));
      } else if (event.ctrlKey || event.metaKey) {
        this.current = index;
        this.toggle(index);
      } else {
        if (!event.shiftKey) this.selected.clear();
        this.go(index, { select: event.shiftKey });
      }
    });
    // However the focus came here (Tab, a screen reader): keys are about the card that has it.
    this.element.addEventListener("focusin", (event) => {
      const index = event.target.classList.contains("card") ? indexOf(event) : this.current;
      if (index === this.current) return;
      this.current = this.anchor = index;
      this.render();
      this.#tell();
    });
    this.element.addEventListener("dblclick", (event) => {
      if (indexOf(event) !== null && !event.target.closest("button")) this.dispatchEvent(new CustomEvent("quick", { detail: "open" }));
    });
    this.element.addEventListener("pointerover", (event) => {
      const index = indexOf(event);
      if (index !== null && event.pointerType === "mouse") warm(event.target.closest(".card"), this.items.at(index));
    });
    this.element.addEventListener("mousedown", (event) => { if (event.shiftKey) event.preventDefault(); }); // no text selection
  }
}
