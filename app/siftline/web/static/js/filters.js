// What the list is narrowed to; the address keeps it, so that a view can be sent to somebody.
import { byId, debounced } from "./dom.js";

const form = byId("filters");
const FIELDS = ["show", "review", "order", "cluster", "q"];

export class Filters extends EventTarget {
  constructor() {
    super();
    this.#fromAddress();
    const changed = () => {
      this.#toAddress();
      this.dispatchEvent(new Event("change"));
    };
    const soon = debounced(changed, 250);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      if (event.target.name === "heat") return this.dispatchEvent(new CustomEvent("heat", { detail: event.target.checked }));
      if (event.target.name) (event.target.name === "q" ? soon : changed)();
      return undefined;
    });
  }

  value(name) {
    return form.elements[name].value;
  }

  set(values) {
    for (const [name, value] of Object.entries(values)) {
      if (name === "folded" || name === "heat") form.elements[name].checked = value;
      else this.#put(name, value);
    }
    this.#toAddress();
    this.dispatchEvent(new Event("change"));
  }

  /** Chromium does not choose a radio button by an empty value. */
  #put(name, value) {
    if (name === "show") for (const radio of form.elements.show) radio.checked = radio.value === value;
    else form.elements[name].value = value;
  }

  toggleHeat() {
    const box = form.elements.heat;
    box.checked = !box.checked;
    this.dispatchEvent(new CustomEvent("heat", { detail: box.checked }));
  }

  focusSearch() {
    form.elements.q.focus();
    form.elements.q.select();
  }

  /** The conditions alone, as `schemas.Selection` names them. */
  selection() {
    const wanted = {};
    const show = this.value("show");
    if (show === "review") wanted.needs_review = true;
    else if (show) wanted.verdict = show;
    if (this.value("review")) wanted.review = this.value("review");
    if (this.value("cluster") !== "") wanted.cluster = Number(this.value("cluster"));
    if (this.value("q").trim()) wanted.name_contains = this.value("q").trim();
    return wanted;
  }

  query() {
    return new URLSearchParams({ ...this.selection(), order: this.value("order"), folded: form.elements.folded.checked });
  }

  /** The conditions in words, for a question about all that fit. */
  inWords() {
    const picked = (name) => form.elements[name].selectedOptions[0].textContent;
    const words = [{ "": "all images", suspect: "suspects", clean: "clean images", review: "images that need review" }[this.value("show")]];
    if (this.value("review")) words.push(picked("review").toLowerCase());
    if (this.value("cluster") !== "") words.push(picked("cluster"));
    if (this.value("q").trim()) words.push(`name contains “${this.value("q").trim()}”`);
    return words.join(", ");
  }

  #fromAddress() {
    const query = new URLSearchParams(location.search);
    for (const name of FIELDS) {
      if (!query.has(name)) continue;
      const value = query.get(name);
      const select = name === "cluster" ? form.elements.cluster : null;
      if (select && ![...select.options].some((option) => option.value === value)) select.add(new Option(`Group ${Number(value) + 1}`, value));
      this.#put(name, value);
    }
    if (query.has("folded")) form.elements.folded.checked = query.get("folded") !== "false";
  }

  #toAddress() {
    const query = new URLSearchParams(location.search);
    for (const name of FIELDS) {
      const value = this.value(name);
      const isDefault = name === "show" ? form.querySelector("[name=show]:checked").defaultChecked : name === "order" ? value === "suspect" : value === "";
      if (isDefault) query.delete(name);
      else query.set(name, value);
    }
    if (form.elements.folded.checked) query.delete("folded");
    else query.set("folded", "false");
    const rest = query.toString();
    history.replaceState(null, "", rest ? `?${rest}` : location.pathname);
  }
}
