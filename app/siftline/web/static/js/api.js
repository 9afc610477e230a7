// Requests to our own server. A failed one is a Problem that people can read.

export class Problem extends Error {
  constructor(status, body, headers) {
    super(body.detail ?? body.title ?? "The server gave an answer this page does not understand.");
    this.status = status;
    this.body = body;
    this.retryAfterS = Number(headers?.get("Retry-After")) || 0;
  }
}

export const isUnreachable = (error) => error instanceof TypeError; // what fetch throws when nothing answers

/** The body of the answer; TypeError when the server cannot be reached, Problem when it refuses. */
export async function call(method, path, { json, body, headers = {}, signal, as = "json" } = {}) {
  const sent = json === undefined ? body : JSON.stringify(json);
  const typed = json === undefined ? headers : { "Content-Type": "application/json", ...headers };
  const answer = await fetch(path, { method, body: sent, headers: { Accept: "application/json", ...typed }, signal });
  if (answer.status === 401) toSignIn();
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})), answer.headers);
  if (answer.status === 204) return null;
  return as === "json" ? answer.json() : as === "buffer" ? answer.arrayBuffer() : answer.text();
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, options) => call("POST", path, options);

export function toSignIn() {
  location.assign(`/signin?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/** A key of our own for each thing that must happen once. randomUUID is missing where there is no TLS. */
export function onceKey() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
