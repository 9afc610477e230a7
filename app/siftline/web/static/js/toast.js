// Short messages that go away by themselves. A popover, so that they stand above open dialogs.
import { byId, h } from "./dom.js";

const box = byId("toasts");
const SHOWN_MS = 6000;

export function say(words, { bad = false } = {}) {
  const toast = h("div", { class: bad ? "toast bad" : "toast" }, words);
  box.append(toast);
  if (box.matches(":popover-open")) box.hidePopover();
  box.showPopover();
  setTimeout(() => {
    toast.remove();
    if (!box.childElementCount && box.matches(":popover-open")) box.hidePopover();
  }, SHOWN_MS);
}

export const complain = (error) => say(error.message === "Failed to fetch" ? "The server cannot be reached." : error.message, { bad: true });
