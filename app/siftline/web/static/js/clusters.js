// Suspects that look alike, as groups: a rare good variant is seen as one thing and not lost image by image.
import { get } from "./api.js";
import { byId, count, h, plural } from "./dom.js";

const MOST_SHOWN = 100;

export class Clusters extends EventTarget {
  #loads = 0;

  constructor({ dataset, version, mayDecide }) {
    super();
    Object.assign(this, { dataset, version, mayDecide, list: [] });
  }

  async load() {
    const mine = ++this.#loads;
    const found = await get(`/d/${this.dataset}/clusters?version=${this.version}`);
    if (mine !== this.#loads) return; // answers may overtake each other
    this.list = found.filter((one) => one.images > 1);
    const select = byId("cluster-pick").querySelector("select");
    const chosen = select.value;
    select.replaceChildren(h("option", { value: "" }, "All groups"),
      ...this.list.map((one) => h("option", { value: one.cluster }, `Group ${one.cluster + 1}: ${plural(one.images, "image")}`)));
    select.value = chosen;
    byId("clusters").replaceChildren(...this.list.slice(0, MOST_SHOWN).map((one) => this.#group(one)));
  }

  /** The strip of groups where suspects are looked at; inside a group, a way out of it. */
  show(show, chosen) {
    byId("clusters").hidden = show !== "suspect" || chosen !== "" || this.list.length === 0;
    byId("cluster-pick").hidden = chosen === "";
  }

  #group(one) {
    const tell = (name, detail) => this.dispatchEvent(new CustomEvent(name, { detail }));
    const decided = one.kept + one.rejected;
    const said = decided ? `${one.kept ? `${count(one.kept)} kept` : ""}${one.kept && one.rejected ? ", " : ""}${one.rejected ? `${count(one.rejected)} rejected` : ""}` : "";
    const button = (word, words, kind) => h("button", { type: "button", class: `small ${kind}`, "aria-label": `${words} group ${one.cluster + 1}`, onclick: () => tell("decide", { cluster: one.cluster, word, images: one.images }) }, words);
    return h("article", { class: decided === one.images ? "cluster done" : "cluster", "aria-label": `Group ${one.cluster + 1}` },
      h("header", {}, h("span", {}, `${count(one.images)} alike`, h("span", { class: "hint" }, said)),
        this.mayDecide && button("keep", "Keep", "good"), this.mayDecide && button("reject", "Reject", "bad"),
        h("button", { type: "button", class: "small", "aria-label": `Look at group ${one.cluster + 1}`, onclick: () => tell("open", one.cluster) }, "Look")),
      h("div", { class: "strip" }, one.shown.map((id) => h("img", { src: `/images/${id}/thumbnail`, alt: "", loading: "lazy" }))));
  }
}
