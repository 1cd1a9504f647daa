// What plays in the page itself. No library, nothing fetched from anywhere but this server. Python
// lays the elements out; here they are found by their data attributes when they are used, as the
// page may draw them anew at any time.

import { live, liveKeep, liveMove, liveOwn, liveStart, liveStop } from "./jam.js";
import { find, say } from "./page.js";
import { pair, pairAt, pairFade, pairGo, pairPlay, pairStop } from "./pair.js";
import { frontMark, pointPlay } from "./spread.js";
import {
  cardPlays, cardsShown, streamLevel, streamPause, streamPress, streamStart, streamStop, streamed,
} from "./stream.js";
import "./visit.js";

let dialStands = 0.5;

function showDial() {
  document.querySelectorAll('[data-studio="front"]').forEach((front) => frontMark(front, dialStands));
  const slider = find("live-dial");
  if (slider && Number(slider.value) !== dialStands) {
    slider.value = dialStands;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

const clicks = {
  "live-start": liveStart,
  "live-stop": liveStop,
  "live-keep": liveKeep,
  "live-say": () => liveMove({ prompt: find("live-prompt").value }),
  "pair-play": () => (pair.playing ? pairStop() : pairPlay()),
  "stream-pause": streamPause,
};

document.addEventListener("click", (event) => {
  const element = event.target.closest?.("[data-studio], [data-play]");
  if (element?.dataset.play) pointPlay(element);
  else if (element) clicks[element.dataset.studio]?.();
  // Stop is silence at once, and no clip plays into another.
  if (event.target.closest?.("#generate")) streamPress();
  else if (event.target.closest?.("#stop")) streamStop();
  const player = event.target.closest?.(".card .play-pause-button");
  if (player) cardPlays(player.closest(".card"));
});

document.addEventListener("keydown", (event) => {
  const element = event.target;
  if (element.dataset?.play && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    pointPlay(element);
  }
  if (element.closest?.("#prompt") && event.key === "Enter" && event.shiftKey) streamPress();
  if (element.dataset?.studio === "live-prompt" && event.key === "Enter") clicks["live-say"]();
});

document.addEventListener("input", (event) => {
  const { studio } = event.target.dataset ?? {};
  const value = event.target.value;
  if (studio === "live-dial") {
    dialStands = Number(value);
    say("live-dial-value", dialStands.toFixed(2));
    liveMove({ diversity: dialStands });
  }
  if (studio === "live-guidance" && value) liveMove({ guidance_scale: Number(value) });
  if (studio === "pair-fade") pairFade();
  if (studio === "pair-at") pairGo(Number(value));
});

// A tab's content is drawn when it is first opened, a clip's box when it is being made: only then
// can they be found. What came before this script did is looked for once, at the end.
const drawn = {
  '[data-studio="front"]': showDial,
  '[data-studio="live-dial"]': showDial,
  '[data-studio="live-guidance"]': liveOwn,
  '[data-studio="stream"]': streamStart,
};

function wake(node) {
  for (const [wanted, act] of Object.entries(drawn)) {
    const found = node.matches?.(wanted) ? node : node.querySelector?.(wanted);
    if (found) act(found);
  }
}

new MutationObserver((changes) => {
  changes.forEach((change) => change.addedNodes.forEach(wake));
  // Gradio changes what is there already in place: the next clip's box is the last one's.
  for (const { attributeName, target } of changes) {
    if (attributeName === "data-url") streamStart(target);
    if (attributeName === "data-a") pairStop();
  }
}).observe(document.documentElement, {
  childList: true, subtree: true, attributes: true, attributeFilter: ["data-url", "data-a"],
});

// What the page's own controls tell, and what its tests look at.
window.studio = {
  live,
  pair,
  pairAt,
  cardsShown,
  streamLevel,
  streamed,
  dial(value) {
    dialStands = value;
    showDial();
  },
  model(name) {
    live.model = name;
    liveOwn();
  },
};

wake(document);
