// Jams: endless music that is steered while it plays.

import { base, dialColour, find, post, say, silenced, silenceOthers, times } from "./page.js";
import { Player } from "./player.js";

const MOVE_MS = 90; // between two moves sent while a slider is dragged

const LEAD_S = 0.25; // a jam comes in short slices, so playing begins with one in hand

class LiveJam extends Player {
  constructor(facts) {
    super(facts.sample_rate, facts.channels, LEAD_S);
    this.id = facts.id;
    this.seed = facts.seed;
    this.running = true;
    this.stopped = false; // by this page itself
    this.moves = new Map(); // number -> { sent }: sent, and not reported yet
    this.early = new Map(); // number -> report that came first
    this.last = null; // the last move that was reported
    this.heardAfter = null; // seconds from that move to its sound
  }

  async listen() {
    while (this.running) {
      const answer = await post(`studio/live/${this.id}/next`, { played_s: this.played() });
      const facts = JSON.parse(answer.headers.get("X-Jam"));
      this.add(await answer.arrayBuffer());
      for (const moved of facts.moved) this.report(moved);
      if (facts.ended) {
        this.running = false;
        if (facts.error) throw new Error(facts.error);
      }
    }
  }

  report(moved) {
    const move = this.moves.get(moved.number);
    if (!move) {
      this.early.set(moved.number, moved); // it was there before the answer to the move itself
      return;
    }
    const left = moved.heard_at_s - this.played();
    this.last = moved;
    this.heardAfter = (performance.now() - move.sent) / 1000 + Math.max(0, left);
    this.moves.delete(moved.number);
  }

  async change(what) {
    const sent = performance.now();
    const facts = await (await post(`studio/live/${this.id}/move`, what)).json();
    this.moves.set(facts.number, { sent });
    const moved = this.early.get(facts.number);
    if (moved) {
      this.early.delete(facts.number);
      this.report(moved);
    }
  }

  async end() {
    this.running = false;
    this.stopped = true;
    await this.close(); // silence first
    try {
      await post(`studio/live/${this.id}/stop`, {});
    } catch { /* it had ended already */ }
  }
}

export const live = { jam: null, model: "", pending: null, timer: 0, history: [] };

function liveSettings() {
  const value = (name) => find(name)?.value;
  const number = (name) => (value(name) === undefined ? null : Number(value(name)));
  const guidance = number("live-guidance");
  const own = Number(find("live-guidance")?.dataset.own);
  return {
    prompt: value("live-prompt"),
    diversity: number("live-dial"),
    guidance_scale: guidance === own ? null : guidance, // the model begins as it does by itself
  };
}

// Set what the chosen model has by itself, unless somebody has set it.
export function liveOwn() {
  const [guidance, button] = [find("live-guidance"), find("live-start")];
  if (!guidance || !button) return; // its tab was not opened yet
  const own = JSON.parse(button.dataset.guidance)[live.model || button.dataset.model];
  if (Number(guidance.value) === Number(guidance.dataset.own)) guidance.value = own;
  guidance.dataset.own = own;
}

export async function liveStart() {
  const button = find("live-start");
  button.disabled = true;
  find("live-kept").replaceChildren();
  silenceOthers(liveSilence);
  try {
    if (live.jam) await live.jam.end();
    liveSay("Starting ...");
    const wanted = liveSettings();
    if (!wanted.prompt.trim()) wanted.prompt = document.querySelector("#prompt textarea")?.value || "";
    find("live-prompt").value = wanted.prompt;
    wanted.model = live.model || button.dataset.model;
    wanted.visit = find("visit")?.dataset.visit;
    Object.assign(wanted, liveHeld(JSON.parse(button.dataset.orders)));
    if (!JSON.parse(button.dataset.dialled).includes(wanted.model)) wanted.diversity = null;
    const jam = new LiveJam(await (await post("studio/live/start", wanted)).json());
    live.jam = jam;
    live.history = [];
    await jam.context.resume();
    find("live-stop").disabled = find("live-keep").disabled = false;
    button.textContent = "Start anew";
    requestAnimationFrame(liveDraw);
    jam.listen()
      .then(() => liveEnded(jam, `The jam has ended after ${jam.played().toFixed(0)} s: it was as long as one may be, or nobody listened for a while. You can still keep it as a file.`))
      .catch((error) => liveEnded(jam, error.message));
  } catch (error) {
    liveSay(error.message);
  } finally {
    button.disabled = false;
  }
}

// Read the controls above: what to begin with. A choice shows its words, not its value.
function liveHeld(orders) {
  const read = (id) => document.querySelector(`#${id} input`)?.value ?? "";
  const chosen = (id) => orders[read(id)] ?? read(id);
  return {
    tempo: read("tempo") === "" ? null : Number(read("tempo")),
    key: chosen("key"),
    chords: chosen("chords"),
    steady: document.querySelector("#steady input")?.checked ?? false,
  };
}

// Say how the jam stands now; what was said beside it was of what came before.
function liveSay(text) {
  say("live-status", text);
  for (const name of ["live-place", "live-move", "live-refused"]) say(name, "");
}

function liveEnded(jam, message) {
  if (live.jam !== jam || jam.stopped) return;
  jam.running = false;
  liveSay(message);
  find("live-stop").disabled = true;
}

export async function liveStop() {
  if (!live.jam) return;
  const jam = live.jam;
  find("live-stop").disabled = true;
  const heard = jam.played();
  await jam.end();
  if (live.jam === jam) liveSay(`Stopped after ${heard.toFixed(0)} s. You can still keep it as a file.`);
}

// Something else plays. Few jams may play at once, so this one makes room for others' too.
function liveSilence() {
  if (live.jam?.running) liveStop();
}

export function liveMove(what) {
  if (!live.jam?.running) return;
  live.pending = { ...live.pending, ...what };
  if (live.timer) return;
  const send = () => {
    live.timer = 0;
    const wanted = live.pending;
    live.pending = null;
    if (!wanted || !live.jam?.running) return;
    live.timer = setTimeout(send, MOVE_MS);
    const jam = live.jam;
    jam.change(wanted).then(() => "", (error) => error.message).then((refused) => {
      if (live.jam === jam && jam.running) say("live-refused", refused);
    });
  };
  send();
}

export async function liveKeep() {
  const jam = live.jam;
  if (!jam) return;
  const kept = find("live-kept");
  kept.textContent = "Writing the file ...";
  try {
    const format = find("live-format").value;
    const file = await (await post(`studio/live/${jam.id}/keep`, { format })).json();
    const link = document.createElement("a");
    link.href = base + file.url;
    link.download = file.name;
    link.textContent = `Download ${file.name}`;
    kept.replaceChildren(link, ` ${file.seconds.toFixed(1)} s, ${file.moves} ${file.moves === 1 ? "move" : "moves"} in its tags`);
  } catch (error) {
    kept.textContent = error.message;
  }
}

function liveDraw() {
  const jam = live.jam;
  if (!jam) return;
  const canvas = find("live-picture");
  if (canvas) {
    live.history.push({ level: jam.level(), dial: Number(find("live-dial")?.value ?? 0.5) });
    if (live.history.length > 400) live.history.shift();
    const draw = canvas.getContext("2d");
    const { width, height } = canvas;
    draw.clearRect(0, 0, width, height);
    live.history.forEach((point, i) => {
      const tall = Math.min(1, point.level * 2.6) * height;
      draw.fillStyle = dialColour(point.dial);
      draw.fillRect((i / 400) * width, (height - tall) / 2, width / 400 + 0.5, Math.max(1, tall));
    });
  }
  if (jam.running) {
    const ahead = jam.made - jam.played();
    const waits = jam.waits ? `, playing had to wait ${times(jam.waits)}` : "";
    say("live-status", jam.made ? `Playing. Seed ${jam.seed}.` : "Making the first sound ...");
    if (jam.made) say("live-place", `${jam.played().toFixed(0)} s, ${ahead.toFixed(1)} s of sound ahead${waits}.`);
    if (jam.last) {
      const left = jam.last.heard_at_s - jam.played();
      const when = left > 0 ? `heard in ${left.toFixed(1)} s` : `heard ${jam.heardAfter.toFixed(1)} s after the move`;
      say("live-move", `New weights stood ${jam.last.weights_ms.toFixed(0)} ms after the move; ${when}.`);
    }
    requestAnimationFrame(liveDraw);
  }
}

silenced(liveSilence);
