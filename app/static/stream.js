// A clip that is heard while it is made. The server holds its sound back until it will not break
// off, then sends it as it comes. The page asks for it when Generate is pressed: until it has been
// told of the clip and has drawn its box, the sound could long be there.

import { base, find, post, say, silenced, silenceOthers, times } from "./page.js";
import { Player } from "./player.js";

const stream = { player: null, url: "", peaks: [], state: "silent" };
const DOUBLE_MS = 1000; // between two clicks that are meant as one
let pressed = null; // while a press waits for its clip

// Generate was pressed: ask for what will come of it.
export function streamPress() {
  if (pressed) return; // what comes of this press goes there too
  if (stream.state === "coming" && performance.now() - stream.since < DOUBLE_MS) return;
  streamStop();
  const { visit, rate, channels } = find("visit")?.dataset ?? {};
  if (!visit) return; // its box will ask
  const player = new Player(Number(rate), Number(channels)); // wakes up meanwhile
  player.context.resume();
  pressed = post("studio/stream", { visit })
    .then((answer) => {
      const facts = JSON.parse(answer.headers.get("X-Stream")); // none where it was refused
      if (facts && facts.url !== stream.url) play(facts, answer, player);
    })
    .catch(() => { /* its box will ask */ })
    .finally(() => {
      pressed = null;
      if (stream.player !== player) player.close();
    });
}

// Play what a box on the page names, once.
export async function streamStart(box) {
  await pressed;
  const { url, rate, channels, seconds } = box.dataset;
  if (url === stream.url) ready(); // heard already, or only drawn anew
  else play({ url, rate, channels, seconds }, fetch(base + url));
}

async function play({ url, rate, channels, seconds }, asked, awake) {
  streamStop();
  silenceOthers(streamStop);
  const fits = awake && awake.rate === Number(rate) && awake.channels === Number(channels);
  const player = fits ? awake : new Player(Number(rate), Number(channels));
  const since = performance.now();
  Object.assign(stream, { player, url, since, peaks: [], seconds: Number(seconds), state: "coming" });
  player.context.resume();
  ready();
  requestAnimationFrame(() => streamDraw(player));
  try {
    const answer = await asked;
    if (!answer.ok) throw new Error("This clip can only be heard when it is whole.");
    const reader = answer.body.getReader();
    const whole = 2 * player.channels; // bytes of one moment
    let rest = new Uint8Array();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || stream.player !== player) break;
      const bytes = new Uint8Array(rest.length + value.length);
      bytes.set(rest);
      bytes.set(value, rest.length);
      const end = bytes.length - (bytes.length % whole);
      rest = bytes.slice(end);
      measure(new Int16Array(bytes.buffer, 0, end / 2), player);
      player.add(bytes.buffer.slice(0, end));
    }
    if (stream.state === "coming") stream.state = "whole";
  } catch (error) {
    if (stream.player === player) say("stream-said", error.message);
  }
}

// A clip plays: the clips of the last run make room, until its own are there; its box can pause it.
function ready() {
  if (stream.shown !== stream.url) document.querySelector(".cards")?.classList.add("last");
  const pause = find("stream-pause");
  if (!pause || !stream.player) return;
  pause.disabled = false;
  pause.textContent = stream.player.context.state === "suspended" ? "Play on" : "Pause";
}

// The clips are on the page.
export function cardsShown() {
  stream.shown = stream.url;
  document.querySelector(".cards")?.classList.remove("last");
}

// Gradio's players keep theirs where only they look.
function cardsSilent(playing) {
  for (const element of document.querySelectorAll(".card *")) {
    if (!playing?.contains(element)) element.shadowRoot?.querySelectorAll("audio").forEach((audio) => audio.pause());
  }
}

// A card's own player was pressed.
export function cardPlays(card) {
  silenceOthers(cardsSilent);
  cardsSilent(card);
}

export function streamStop() {
  const player = stream.player;
  if (!player || stream.state === "silent") return;
  stream.heard = player.played();
  stream.state = "silent";
  stream.player = null;
  streamEnded(`Silent after ${stream.heard.toFixed(1)} s.`);
  player.close();
}

export async function streamPause() {
  const { context } = stream.player ?? {};
  if (!context) return;
  if (context.state === "running") await context.suspend();
  else {
    silenceOthers(streamStop);
    await context.resume();
  }
  say("stream-pause", context.state === "running" ? "Pause" : "Play on");
}

// Seconds of the last clip that were heard while it was made.
export const streamed = () => stream.player?.played() ?? 0;

// How loud it is now.
export const streamLevel = () => stream.player?.level() ?? 0;

function streamEnded(text) {
  const button = find("stream-pause");
  if (button) button.disabled = true;
  say("stream-said", text);
}

function streamDraw(player) {
  if (stream.player !== player) return;
  const at = player.played();
  if (stream.state === "whole" && at >= player.made - 0.02) {
    stream.state = "silent";
    stream.player = null;
    player.close();
    streamPicture(at);
    streamEnded(player.made ? "Heard to the end." : "Nothing was heard.");
    return;
  }
  streamPicture(at);
  const waits = player.waits ? `; it had to wait ${times(player.waits)}` : "";
  if (player.made) say("stream-said", `${at.toFixed(1)} of ${stream.seconds.toFixed(1)} s${waits}`);
  requestAnimationFrame(() => streamDraw(player));
}

// Note how loud the next samples are, in bars of a fortieth of a second.
function measure(numbers, player) {
  const bar = Math.round(player.rate / 40) * player.channels;
  for (let i = 0; i < numbers.length; i += bar) {
    const loudest = numbers.subarray(i, i + bar).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const from = player.made + i / player.channels / player.rate;
    stream.peaks.push({ from, loudest: loudest / 32768 });
  }
}

// Bars of what has come, those that were heard in colour.
function streamPicture(at) {
  const canvas = find("stream-picture");
  if (!canvas) return;
  const draw = canvas.getContext("2d");
  const { width, height } = canvas;
  const heard = getComputedStyle(canvas).getPropertyValue("--color-accent") || "#d9622b";
  draw.clearRect(0, 0, width, height);
  const across = (seconds) => (seconds / stream.seconds) * width;
  const wide = Math.max(1, across(1 / 40) * 0.7);
  for (const { from, loudest } of stream.peaks) {
    const tall = Math.max(2, loudest * height);
    draw.fillStyle = from < at ? heard : "#a8998a";
    draw.fillRect(across(from), (height - tall) / 2, wide, tall);
  }
}

silenced(streamStop);
silenced(cardsSilent);
