// Points that sound, and the mark on the measured front.

import { base, say, silenced, silenceOthers } from "./page.js";

const point = { player: null, shown: null };

function pointStop() {
  point.player?.pause();
  point.shown?.classList.remove("playing");
  point.shown = null;
}

export function pointPlay(dot) {
  point.player ||= new Audio();
  point.shown?.classList.remove("playing");
  if (point.shown === dot && !point.player.paused) {
    point.player.pause();
    point.shown = null;
    return;
  }
  silenceOthers(pointStop);
  point.player.src = base + dot.dataset.play;
  point.player.play().catch(() => say("spread-status", "This clip is no longer here: draw it again."));
  point.player.onended = () => dot.classList.remove("playing");
  dot.classList.add("playing");
  point.shown = dot;
  say("spread-status", dot.getAttribute("aria-label"));
}

export function frontMark(front, value) {
  const mark = front.querySelector('[data-studio="front-mark"]');
  const places = JSON.parse(front.dataset.places); // [lam, x, y], in order of lam
  let i = places.findIndex((place) => place[0] >= value);
  if (i < 0) i = places.length - 1;
  const [a, b] = [places[Math.max(0, i - 1)], places[i]];
  const share = b[0] > a[0] ? Math.max(0, (value - a[0]) / (b[0] - a[0])) : 0;
  mark.setAttribute("transform", `translate(${a[1] + (b[1] - a[1]) * share} ${a[2] + (b[2] - a[2]) * share})`);
}

silenced(pointStop);
