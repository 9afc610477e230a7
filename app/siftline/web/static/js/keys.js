// The keyboard, for people who look at images all day.
import { byId } from "./dom.js";

const WORDS = { k: "keep", x: "reject", u: "clear" };

export function bindKeys({ grid, viewer, filters, decide, undo }) {
  document.addEventListener("keydown", (event) => {
    if (isTyping(event) || document.querySelector("dialog[open]:not(#viewer)")) return;
    if (shortcut(event) || (viewer.isOpen ? viewer.key(event) : inGrid(event))) event.preventDefault();
  });

  function shortcut(event) {
    const { key } = event;
    if ((event.ctrlKey || event.metaKey) && key === "z") return undo(), true;
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (WORDS[key]) decide(WORDS[key]);
    else if (key === "z") undo();
    else if (key === "h" && !viewer.isOpen) filters.toggleHeat();
    else if (key === "?") byId("keys").showModal();
    else if (key === "/" && !viewer.isOpen) filters.focusSearch();
    else return false;
    return true;
  }

  function inGrid(event) {
    const { key } = event;
    if ((event.ctrlKey || event.metaKey) && key !== "a") return false;
    if (key === "Escape" && grid.selected.size) return grid.selectNone(), true;
    if (key === "a") return grid.selectLoaded(), true;
    if (!onGrid(event.target)) return false; // elsewhere these keys have their usual meaning
    if (key === "Enter") return viewer.open(grid.current), true;
    if (key === " ") return grid.toggle(), true;
    return grid.step(key, { select: event.shiftKey });
  }

  const onGrid = (target) => target === document.body || target === byId("main") || byId("grid").contains(target);
}

function isTyping(event) {
  return event.target.matches("input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select");
}
