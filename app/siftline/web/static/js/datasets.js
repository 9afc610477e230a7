// The list of datasets, and a new one by dropping files.
import { Problem, onceKey, toSignIn } from "./api.js";
import { byId, bytes, plural } from "./dom.js";
import { acceptDrops } from "./drop.js";
import "./jobs.js";

const form = byId("upload");
if (form) setUp();

function setUp() {
  const fields = form.elements;
  let files = [];

  function choose(list) {
    files = [...list];
    const size = files.reduce((sum, file) => sum + file.size, 0);
    byId("chosen").textContent = files.length ? `${plural(files.length, "file")}, ${bytes(size)}` : "";
    if (files.length && !fields.name.value) fields.name.value = files[0].name.replace(/(\.tar)?\.[^.]+$/, "").slice(0, 200);
  }

  acceptDrops(byId("drop"), choose);
  fields.files.addEventListener("change", () => choose(fields.files.files));
  fields.cost_ratio.addEventListener("input", () => { byId("cost-shown").textContent = fields.cost_ratio.value; });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    complainIn("");
    if (!fields.name.value.trim()) return complainIn("Give the dataset a name.", fields.name);
    if (!files.length) return complainIn("Choose images or an archive first.");
    try {
      const made = await send(fields.name.value.trim(), options(fields), files);
      location.assign(`/d/${made.dataset.id}`);
    } catch (error) {
      complainIn(error.message);
    }
  });
}

function complainIn(words, field) {
  byId("upload-error").textContent = words;
  field?.focus();
}

function options(fields) {
  const chosen = { cost_ratio: Number(fields.cost_ratio.value) };
  if (fields.contamination_hint.value) chosen.contamination_hint = Number(fields.contamination_hint.value) / 100;
  return chosen;
}

/** XMLHttpRequest, because fetch cannot tell how much of a body has gone out. */
function send(name, chosen, files) {
  const body = new FormData();
  body.append("name", name);
  body.append("options", JSON.stringify(chosen));
  for (const file of files) body.append("files", file, file.name);
  const request = new XMLHttpRequest();
  const bar = byId("upload-progress");
  const stop = byId("stop-upload");
  const button = form.querySelector("button[type=submit]");
  const busy = (is) => { bar.hidden = !is; stop.hidden = !is; button.disabled = is; };
  stop.onclick = () => request.abort();
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.firstElementChild.value = loaded / total;
    bar.lastElementChild.textContent = loaded < total ? `${bytes(loaded)} of ${bytes(total)}` : "Looking at the files…";
  });
  return new Promise((resolve, reject) => {
    busy(true);
    request.addEventListener("loadend", () => busy(false));
    request.addEventListener("abort", () => reject(new Error("Stopped. Nothing was kept.")));
    request.addEventListener("error", () => reject(new Error("The connection broke. Try again: nothing was kept.")));
    request.addEventListener("load", () => {
      if (request.status === 401) toSignIn();
      const answer = parsed(request.responseText);
      if (request.status === 202) resolve(answer);
      else reject(new Problem(request.status, answer));
    });
    request.open("POST", "/datasets");
    request.setRequestHeader("Idempotency-Key", onceKey());
    request.send(body);
  });
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return {}; }
}
