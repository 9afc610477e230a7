// A question that must be answered before anything goes on.
import { byId, h } from "./dom.js";

const dialog = byId("ask");

/** Whether the answer was yes. `list`: lines to look at before answering. */
export function ask({ title, words, list = [], yes, no = "Cancel", bad = false }) {
  byId("ask-title").textContent = title;
  byId("ask-words").textContent = words;
  byId("ask-list").replaceChildren(...list.map((line) => h("li", {}, line)));
  byId("ask-yes").textContent = yes;
  byId("ask-yes").className = bad ? "bad" : "primary";
  byId("ask-no").textContent = no;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
