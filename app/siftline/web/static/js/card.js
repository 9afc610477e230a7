// One card: a picture, its score, what was said of it. Made once, filled again as the list moves under it.
import { figure, h, moment, percent } from "./dom.js";

export function makeCard() {
  const picture = h("div", { class: "picture" }, h("img", { alt: "", loading: "lazy", decoding: "async", class: "photo" }), h("div", { class: "tags" }));
  const quick = h("div", { class: "quick" },
    h("button", { type: "button", class: "decides", tabindex: -1, dataset: { quick: "keep" }, "aria-label": "Keep", title: "Keep (k)" }, "✓"),
    h("button", { type: "button", class: "decides", tabindex: -1, dataset: { quick: "reject" }, "aria-label": "Reject", title: "Reject (x)" }, "✕"),
    h("button", { type: "button", tabindex: -1, dataset: { quick: "open" }, "aria-label": "Large view", title: "Large view (Enter)" }, "⤢"));
  const caption = h("div", { class: "caption" },
    h("div", { class: "line" }, h("span", { class: "rank" }), h("span", { class: "score" }), h("span", { class: "p" })),
    h("span", { class: "name" }));
  return h("div", { role: "gridcell", tabindex: -1 }, picture, quick, caption);
}

const part = (card, name) => card.querySelector(`.${name}`);

/** Show `item` (undefined while it is on its way) in a card. `view`: selected, current, preview verdict. */
export function fillCard(card, item, index, view) {
  card.dataset.index = index;
  card.setAttribute("aria-colindex", view.column + 1);
  card.setAttribute("aria-selected", view.selected);
  card.tabIndex = view.current ? 0 : -1;
  card.className = classes(item, view);
  card.setAttribute("aria-label", item ? label(item) : "loading");
  for (const name of ["quick", "caption"]) part(card, name).hidden = !item;
  if (!item) {
    card.dataset.image = "";
    part(card, "photo").removeAttribute("src");
    card.querySelector(".heat")?.remove();
    part(card, "tags").replaceChildren();
    return;
  }
  if (card.dataset.image !== item.image_id) {
    card.dataset.image = item.image_id;
    part(card, "photo").src = item.thumbnail_url;
    card.querySelector(".heat")?.remove();
    card.title = item.name;
    part(card, "name").textContent = item.name;
    part(card, "rank").textContent = `#${item.rank}`;
    part(card, "score").textContent = figure(item.score);
    part(card, "p").textContent = `${percent(item.p_anomalous)} bad`;
  }
  part(card, "tags").replaceChildren(...tags(item));
}

/** The heat map lies over the photograph by itself: the server need not decode the image again. */
export function warm(card, item) {
  if (!item || card.querySelector(".heat")) return;
  part(card, "photo").after(h("img", { class: "heat", alt: "", src: `${item.heatmap_url}&overlay=false`, decoding: "async" }));
}

function classes(item, view) {
  if (!item) return "card empty-card";
  const words = ["card", effective(item)];
  if (item.review) words.push(item.review);
  if (view.selected) words.push("selected");
  if (view.current) words.push("current");
  if (view.preview && !item.review && view.preview !== item.verdict) words.push(`to-${view.preview}`);
  return words.join(" ");
}

/** The verdict that counts: what a person said outranks the machine. */
export const effective = (item) => (item.review === "keep" ? "clean" : item.review === "reject" ? "suspect" : item.verdict);

const SAID = { keep: "Kept", reject: "Rejected" };

function tags(item) {
  const found = [];
  if (item.review) {
    const by = item.pending ? "not sent yet" : `${item.reviewed_by}, ${moment(item.reviewed_at)}`;
    found.push(h("span", { class: `tag ${item.review}${item.pending ? " pending" : ""}`, title: by }, SAID[item.review]));
  } else if (item.pending) {
    found.push(h("span", { class: "tag pending" }, "Cleared"));
  }
  if (item.needs_review && !item.review) found.push(h("span", { class: "tag torn", title: "The verdict could be the other one" }, "Needs review"));
  if (item.near_duplicates.length) found.push(h("span", { class: "tag", title: "Near-duplicates" }, `+${item.near_duplicates.length}`));
  if (item.cluster !== null) found.push(h("span", { class: "tag", title: "Group of suspects that look alike" }, `group ${item.cluster + 1}`));
  return found;
}

function label(item) {
  const said = item.review ? `${SAID[item.review].toLowerCase()} by ${item.reviewed_by}` : "not decided";
  const more = item.near_duplicates.length ? `, with ${item.near_duplicates.length} near-duplicates` : "";
  return `Rank ${item.rank}, ${item.name}, score ${figure(item.score)}, ${percent(item.p_anomalous)} chance that it is bad, ${item.verdict}, ${said}${more}`;
}
