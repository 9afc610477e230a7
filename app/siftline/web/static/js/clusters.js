// Suspects that look alike, as groups: a rare good variant is seen as one thing and not lost image by image.
import { get } from "./api.js";
import { byId, count, h, plural } from "./dom.js";

const SHOWN_AT_FIRST = 4;

export class Clusters extends EventTarget {
  constructor({ dataset, version, mayDecide }) {
    super();
    Object.assign(this, { dataset, version, mayDecide, all: false, list: [] });
  }

  async load() {
    this.list = (await get(`/d/${this.dataset}/clusters?version=${this.version}`)).filter((one) => one.images > 1);
    const pick = byId("cluster-pick");
    pick.hidden = this.list.length === 0;
    const select = pick.querySelector("select");
    const chosen = select.value;
    select.replaceChildren(h("option", { value: "" }, "All groups"),
      ...this.list.map((one) => h("option", { value: one.cluster }, `Group ${one.cluster + 1}: ${plural(one.images, "image")}`)));
    select.value = chosen;
    this.draw();
  }

  draw() {
    const shown = this.all ? this.list : this.list.slice(0, SHOWN_AT_FIRST);
    const more = this.list.length > SHOWN_AT_FIRST && h("button", { type: "button", class: "quiet", onclick: () => { this.all = !this.all; this.draw(); } },
      this.all ? "Fewer groups" : `All ${count(this.list.length)} groups of look-alike suspects`);
    byId("clusters").replaceChildren(...shown.map((one) => this.#group(one)), ...(more ? [more] : []));
  }

  show(is) {
    byId("clusters").hidden = !is || this.list.length === 0;
  }

  #group(one) {
    const tell = (name, detail) => this.dispatchEvent(new CustomEvent(name, { detail }));
    const decided = one.kept + one.rejected;
    const said = decided ? `, ${one.kept ? `${count(one.kept)} kept` : ""}${one.kept && one.rejected ? ", " : ""}${one.rejected ? `${count(one.rejected)} rejected` : ""}` : "";
    const button = (word, words, kind) => h("button", { type: "button", class: `small ${kind}`, "aria-label": `${words} group ${one.cluster + 1}`, onclick: () => tell("decide", { cluster: one.cluster, word, images: one.images }) }, words);
    return h("article", { class: decided === one.images ? "cluster done" : "cluster", "aria-label": `Group ${one.cluster + 1}` },
      h("header", {}, h("span", {}, `${plural(one.images, "image")} alike`, h("span", { class: "hint" }, said)),
        this.mayDecide && button("keep", "Keep", "good"), this.mayDecide && button("reject", "Reject", "bad"),
        h("button", { type: "button", class: "small", "aria-label": `Look at group ${one.cluster + 1}`, onclick: () => tell("open", one.cluster) }, "Look")),
      h("div", { class: "strip" }, one.shown.map((id) => h("img", { src: `/images/${id}/thumbnail`, alt: "", loading: "lazy" }))));
  }
}
