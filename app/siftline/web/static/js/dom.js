// Elements are only ever made here, and what comes from elsewhere is only ever set as text or attribute:
// file names are hostile.

export const byId = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (`onclick`), properties of `dataset`, and children. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Put a row the server has rendered in the place of an old one. */
export function replaceWithHtml(old, html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  old.replaceWith(document.adoptNode(fresh));
  return fresh;
}

const THIN = "\u202f";

export const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, THIN);
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
/** As `services/words.py` says it: what is not all is never rounded to 100, nor some to 0. */
export const percent = (share) => {
  const value = 100 * share;
  if (value > 0 && value < 0.05) return "< 0.1 %";
  if (value >= 99.95 && value < 100) return "> 99.9 %";
  const whole = value === 0 || value === 100 || (value >= 9.95 && value < 99.5);
  return `${value.toFixed(whole ? 0 : 1)} %`;
};
/** Three significant digits, never in exponents. */
export const figure = (value) => {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : 4);
};
export const bytes = (n) => {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (n >= 1000 && unit < 3) { n /= 1000; unit += 1; }
  return `${n >= 100 || unit === 0 ? n.toFixed(0) : n.toFixed(1)} ${units[unit]}`;
};
export const duration = (seconds) => {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  return whole < 3600 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
};

export function moment(iso) {
  const at = new Date(iso);
  const seconds = (Date.now() - at) / 1000;
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** `work` once things have been quiet for a while. */
export function debounced(work, quietMs) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), quietMs);
  };
}
