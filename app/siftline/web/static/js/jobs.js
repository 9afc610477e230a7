// Lists of things with jobs: live progress, cancel, and a fresh row when a job ends.
import { get, post } from "./api.js";
import { replaceWithHtml } from "./dom.js";
import { follow, show } from "./live.js";
import { complain } from "./toast.js";

export async function watch(row) {
  await follow(row.dataset.job, (job) => show(row, job));
  if (row.dataset.refresh === "reload") location.reload();
  else revive(replaceWithHtml(row, await get(row.dataset.refresh, { as: "text" })));
}

function revive(row) {
  if (row.dataset.job) watch(row).catch(complain); // another job came meanwhile
}

for (const row of document.querySelectorAll("[data-job]")) watch(row).catch(complain);

document.addEventListener("click", async (event) => {
  const cancel = event.target.closest("[data-cancel]");
  const purify = event.target.closest("[data-purify]");
  try {
    if (cancel) {
      cancel.disabled = true;
      await post(`/jobs/${cancel.dataset.cancel}/cancel`);
    } else if (purify) {
      purify.disabled = true;
      await post(`/datasets/${purify.dataset.purify}/purifications`, { json: {} });
      location.reload();
    }
  } catch (error) {
    (cancel ?? purify).disabled = false;
    complain(error);
  }
});
