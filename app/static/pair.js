// Two clips in step, with a fader between them.

import { base, find, say, silenced, silenceOthers } from "./page.js";

export const pair = { context: null, playing: null };

async function pairLoad(panel) {
  pair.context ||= new AudioContext();
  const urls = [panel.dataset.a, panel.dataset.b];
  if (pair.urls?.join() !== urls.join()) {
    pair.buffers = await Promise.all(urls.map(async (url) => {
      const answer = await fetch(base + url);
      if (!answer.ok) throw new Error("The clips are no longer here: compare again.");
      return pair.context.decodeAudioData(await answer.arrayBuffer());
    }));
    pair.urls = urls;
    pair.from = 0;
  }
}

export function pairFade() {
  const share = Number(find("pair-fade")?.value ?? 0.5);
  if (!pair.playing) return;
  const gains = [Math.cos((share * Math.PI) / 2), Math.sin((share * Math.PI) / 2)]; // equal power
  const now = pair.context.currentTime;
  pair.playing.gains.forEach((gain, i) => gain.gain.setTargetAtTime(gains[i], now, 0.012));
}

export function pairAt() {
  if (!pair.playing) return pair.from || 0;
  const length = Math.max(...pair.buffers.map((b) => b.duration));
  return Math.min(length, pair.playing.from + Math.max(0, pair.context.currentTime - pair.playing.at));
}

export function pairStop() {
  if (!pair.playing) return;
  pair.from = pairAt();
  pair.playing.sources.forEach((source) => {
    source.onended = null;
    source.stop();
  });
  pair.playing = null;
  find("pair-play").textContent = "Play both";
}

export async function pairPlay(from) {
  const panel = find("pair");
  silenceOthers(pairStop);
  say("pair-status", "");
  try {
    await pairLoad(panel);
    await pair.context.resume();
    const length = Math.max(...pair.buffers.map((b) => b.duration));
    if (from === undefined) from = (pair.from || 0) >= length - 0.05 ? 0 : pair.from || 0;
    if (pair.playing) pairStop();
    const at = pair.context.currentTime + 0.05; // one moment for both
    const gains = pair.buffers.map(() => pair.context.createGain());
    const analyser = pair.context.createAnalyser();
    analyser.connect(pair.context.destination);
    const sources = pair.buffers.map((buffer, i) => {
      const source = pair.context.createBufferSource();
      source.buffer = buffer;
      source.connect(gains[i]).connect(analyser);
      source.start(at, Math.min(from, buffer.duration));
      return source;
    });
    pair.playing = { at, from, gains, sources, analyser };
    sources[0].onended = () => {
      if (pair.playing?.sources === sources) pairStop();
    };
    pairFade();
    find("pair-play").textContent = "Pause";
    requestAnimationFrame(pairDraw);
  } catch (error) {
    say("pair-status", error.message);
  }
}

function pairDraw() {
  const bar = find("pair-at");
  if (!bar || !pair.buffers) return;
  const length = Math.max(...pair.buffers.map((b) => b.duration));
  if (document.activeElement !== bar || pair.playing) bar.value = pairAt() / length;
  say("pair-place", `${pairAt().toFixed(1)} of ${length.toFixed(1)} s`);
  if (pair.playing) requestAnimationFrame(pairDraw);
}

// Go to a place, 0 to 1, playing or not.
export function pairGo(share) {
  if (!pair.buffers) return;
  const at = share * Math.max(...pair.buffers.map((b) => b.duration));
  if (pair.playing) pairPlay(at);
  else pair.from = at;
}

silenced(pairStop);
