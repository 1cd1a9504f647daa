// Tells the server that this page is open, and when it is left: its jobs and files go then.

import { base, find, post } from "./page.js";

const BEAT_MS = 20_000;

const visit = () => find("visit")?.dataset.visit;

setInterval(() => {
  if (visit()) post("studio/visit/beat", { visit: visit() }).catch(() => { /* the next one may come through */ });
}, BEAT_MS);

addEventListener("pagehide", () => {
  const said = new Blob([JSON.stringify({ visit: visit() })], { type: "application/json" });
  if (visit()) navigator.sendBeacon(`${base}studio/visit/leave`, said);
});
