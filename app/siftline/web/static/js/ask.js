// A question that must be answered before anything goes on.
import { byId, h } from "./dom.js";

const dialog = byId("ask");
let last = Promise.resolve();

/** Whether the answer was yes. One question at a time: what comes meanwhile must not take the answer to another. */
export function ask(question) {
  last = last.then(() => put(question));
  return last;
}

/** `list`: lines to look at before answering. */
function put({ title, words, list = [], yes, no = "Cancel", bad = false }) {
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
