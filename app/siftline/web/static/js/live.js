// Jobs while they run: by server-sent events, a few at a time, since a browser keeps six connections to a host.
import { get } from "./api.js";
import { duration } from "./dom.js";

const MOST_STREAMS = 2;
const LOOK_EVERY_MS = 3000;
const FINISHED = new Set(["succeeded", "failed", "cancelled"]);
const KINDS = { purify: "Purification", recut: "New cut", similar: "Search for look-alikes", train: "Training", score: "Scoring" };
let streams = 0;

/** `onChange(job)` whenever it changes; the promise gives the finished job. */
export function follow(jobId, onChange = () => {}) {
  return streams < MOST_STREAMS ? listen(jobId, onChange) : look(jobId, onChange);
}

function listen(jobId, onChange) {
  streams += 1;
  return new Promise((resolve) => {
    const source = new EventSource(`/jobs/${jobId}/events`);
    source.addEventListener("job", (event) => {
      const job = JSON.parse(event.data);
      onChange(job);
      if (!FINISHED.has(job.state)) return;
      source.close();
      streams -= 1;
      resolve(job);
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
      streams -= 1;
      resolve(look(jobId, onChange));
    });
  });
}

async function look(jobId, onChange) {
  for (;;) {
    try {
      const job = await get(`/jobs/${jobId}`);
      onChange(job);
      if (FINISHED.has(job.state)) return job;
    } catch (error) {
      if (error.status === 404) return { id: jobId, state: "cancelled", error: null, result: null };
    }
    await new Promise((wake) => setTimeout(wake, LOOK_EVERY_MS));
  }
}

export function inWords(job) {
  const kind = KINDS[job.kind];
  switch (job.state) {
    case "queued": return `${kind}: waiting for a worker`;
    case "running": return job.stage ? `${kind}: ${job.stage}` : kind;
    case "cancelling": return `${kind}: being cancelled`;
    case "failed": return `${kind} failed`;
    case "cancelled": return `${kind} was cancelled`;
    default: return `${kind} is done`;
  }
}

/** Show a job's words, bar and time left in an element that has places for them. */
export function show(place, job) {
  const words = place.querySelector(".state-words");
  if (!words) return;
  words.textContent = inWords(job);
  place.querySelector("progress").value = job.progress;
  place.querySelector(".state-eta").textContent = job.eta_s === null ? "" : `${duration(job.eta_s)} left`;
}
