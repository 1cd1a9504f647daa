// One rater's session. The server says what to show; nothing here knows what is compared.
import { Players } from "./player.js";
import { choices, make, playerRow, uniqueNumber } from "./page.js";

const root = document.getElementById("session");
const base = location.pathname.replace(/\/$/, "");
const pendingName = `pending:${base}`;
let players = null;
let shortcuts = {};
let rested = -1;

async function call(path, body) {
  const options = body === undefined
    ? {}
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const reply = await fetch(`${base}/${path}`, { cache: "no-store", ...options });
      if (reply.status < 500) {
        const content = await reply.json();
        say("");
        return reply.ok ? content : { error: content.error ?? "That did not work." };
      }
    } catch {
      // no network, or the server is away: the same message goes out again, and counts once
    }
    say(body === undefined ? "No connection, trying again ..."
      : "Not stored yet: no connection, trying again ...");
    await new Promise((go) => setTimeout(go, wait));
  }
}

function say(text) {
  const line = document.getElementById("message");
  if (line && line.textContent !== text) line.textContent = text;
}

function sentence(text) {
  return text[0].toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");
}

function show(state, ...given) {
  const children = given.filter((child) => child !== null);
  players?.stop();
  players = null;
  shortcuts = {};
  const over = state.stage === "done" || state.stage === "stopped";
  const link = make("button", {
    type: "button", className: "quiet",
    onclick: async () => {
      const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
      say(copied ? "Copied." : "Copy the address of this page.");
    },
  }, "Copy my personal link");
  root.replaceChildren(
    ...children,
    make("p", { id: "message", role: "status" }),
    make(
      "footer",
      {},
      ...(over ? [] : [make("p", {},
        "You can stop at any time: everything sent is stored. Your personal link, the address of "
        + "this page, brings you back, also on another device. "), link]),
      make("p", {}, `To have your answers deleted, send this code to ${
        state.contact || "those who invited you"}: ${state.code}`),
    ),
  );
  root.setAttribute("aria-busy", "false");
  const heading = root.querySelector("h2");
  if (heading) {
    heading.tabIndex = -1;
    heading.focus();
  }
}

function draw(state) {
  if (state.error) return say(sentence(state.error));
  if (state.stage === "stopped") {
    return show(state, make("h2", {}, "The study has ended"), make("p", {}, "Thank you."));
  }
  if (state.stage === "done") {
    return show(state, make("h2", {}, "That was all"),
      make("p", {}, "Every answer is stored. Thank you for listening. You may close this page."));
  }
  if (state.stage === "headphones") return drawHeadphones(state);
  const every = state.break_every;
  if (every && state.done && state.done % every === 0 && rested !== state.done) {
    rested = state.done;
    return show(state, progress(state), make("h2", {}, "Time for a pause?"),
      make("p", {}, `${state.done} of ${state.total} are done. Rest your ears as long as you like.`),
      make("button", { type: "button", className: "main", onclick: () => draw(state) }, "Go on"));
  }
  return drawTrial(state);
}

function progress(state) {
  return make("p", { className: "progress" },
    make("progress", { max: state.total, value: state.done, ariaLabel: "Progress" }),
    ` ${state.done} of ${state.total}`);
}

function drawHeadphones(state) {
  const answers = Array(state.rounds).fill(null);
  const names = answers.map((_, n) => `${n + 1}`);
  const mine = new Players(names.map((_, n) => `${base}/headphones/${n}`),
    { changed: () => rows.forEach((row) => row.draw()) });
  const rows = names.map((name, n) => playerRow(mine, n, `round ${name}`, name, 1, 0));
  const asked = names.map((name, n) => choices(`round-${n}`, "Which tone is the quietest?",
    [[0, "first"], [1, "second"], [2, "third"]], null, (value) => { answers[n] = value; }));
  const send = async (given) => {
    mine.stop();
    draw(await call("headphones", { answers: given }));
  };
  show(state, make("h2", {}, "Headphones"),
    make("p", {}, "Please put on headphones and set a comfortable volume. Each round plays three "
      + "tones. Which one is the quietest?"),
    ...names.flatMap((_, n) => [rows[n], asked[n]]),
    make("div", { className: "buttons" },
      make("button", { type: "button", className: "main", onclick: () => {
        if (answers.includes(null)) return say("Please answer all rounds.");
        return send(answers);
      } }, "Next"),
      make("button", { type: "button", className: "quiet", onclick: () => send(null) },
        "I have no headphones")));
  players = mine;
  names.forEach((name, n) => { shortcuts[name] = () => mine.toggle(n); });
  rows.forEach((row) => row.draw());
  mine.load();
}

const LABELS = {
  rating: ["the clip"], pair: ["A", "B"], sets: ["group A", "group B"], abx: ["A", "B", "X"],
};

function drawTrial(state) {
  const trial = state.trial;
  const values = { ...trial.values };
  const urls = [...trial.players, ...(trial.reference ? [trial.reference] : [])]
    .map((name) => `${base}/sound/${name}`);
  const labels = trial.kind === "mushra"
    ? [...trial.players.map((_, n) => `sound ${n + 1}`), "the reference"]
    : LABELS[trial.kind];
  const keys = trial.kind === "mushra"
    ? [...trial.players.map((_, n) => `${n + 1}`), "r"]
    : labels.map((label) => label === "the clip" ? "a" : label.at(-1).toLowerCase());
  const mine = new Players(urls, { together: trial.kind === "mushra", changed: () => update() });
  const rows = labels.map((label, n) =>
    playerRow(mine, n, label, keys[n], trial.parts, trial.minimum_s));
  const items = trial.kind === "mushra" ? [grades(trial, values, rows)]
    : trial.items.map((item) => itemOf(trial, item, values));
  const order = trial.kind === "mushra" ? [rows.at(-1)] : rows;
  const all = make("div", { className: "items" }, ...items);
  const hint = make("p", { className: "hint" });
  let heardAll = false;

  function update() {
    rows.forEach((row) => row.draw());
    const all_heard = labels.every((_, n) => mine.heardOf(n) >= trial.minimum_s - 0.05);
    if (all_heard === heardAll && hint.textContent) return;
    heardAll = all_heard;
    // Not the grades' own frame: the players stand in it.
    all.querySelectorAll("fieldset:not(.grades), input[type=range]").forEach((part) => {
      part.disabled = !heardAll;
    });
    const much = `${trial.minimum_s} s`;
    hint.textContent = !trial.minimum_s ? "You can listen as often as you like."
      : heardAll ? "You can listen again as often as you like."
      : labels.length > 1 ? `Please listen to each for at least ${much}; then answer.`
        : `Please listen for at least ${much}; then answer.`;
  }

  const submission = uniqueNumber();
  const button = make("button", { type: "button", className: "main", onclick: send },
    trial.revision === null ? "Next" : "Store the change");

  async function send() {
    const missing = trial.items.find((item) => trial.kind === "mushra"
      ? !values[item.id] || values[item.id].includes(null) : values[item.id] === undefined);
    if (!heardAll) return say("Please listen first.");
    if (missing) return say(trial.kind === "mushra" ? "Please grade every sound."
      : `Please answer: ${missing.ask}`);
    mine.stop();
    button.disabled = true;
    const body = { trial: trial.id, submission, values, plays: mine.plays.slice(-400),
      corrects: trial.revision };
    remember(body);
    const state = await call("answers", body);
    remember(null);
    button.disabled = false;
    return draw(state);
  }

  const back = trial.position > 0
    ? make("button", { type: "button", className: "quiet",
        onclick: async () => draw(await call(`trial/${trial.position - 1}`)) }, "Back")
    : null;
  const skip = trial.revision !== null
    ? make("button", { type: "button", className: "quiet",
        onclick: async () => draw(await call("state")) }, "Leave it as it is")
    : null;
  show(state, progress(state),
    make("h2", {}, trial.practice ? "Practice (does not count)" : `Number ${trial.position + 1}`),
    trial.prompt ? make("blockquote", {}, trial.prompt) : null,
    ...order, hint, all, make("div", { className: "buttons" }, button, skip, back));
  players = mine;
  keys.forEach((key, n) => { shortcuts[key] = () => mine.toggle(n); });
  update();
  mine.load().catch(() => say("A sound cannot be loaded: please reload the page."));
}

function itemOf(trial, item, values) {
  const choose = (value) => { values[item.id] = value; };
  const labels = trial.kind === "rating"
    ? item.words.map((word, n) => [n + 1, `${n + 1}`, word])
    : [["first", trial.kind === "sets" ? "group A" : "A"],
       ...(trial.ties ? [["tie", "no difference"]] : []),
       ["second", trial.kind === "sets" ? "group B" : "B"]];
  return choices(item.id, item.ask, labels, values[item.id], choose);
}

function grades(trial, values, rows) {
  const item = trial.items[0];
  const given = values[item.id] ?? trial.players.map(() => null);
  values[item.id] = given;
  return make("fieldset", { className: "item grades" }, make("legend", {}, item.ask),
    make("p", { className: "scale" }, ...["0 bad", "poor", "fair", "good", "excellent 100"].map(
      (word) => make("small", {}, word))),
    ...trial.players.map((_, n) => {
      const out = make("output", {}, given[n] === null ? "not yet" : `${given[n]}`);
      const range = make("input", {
        type: "range", min: 0, max: 100, step: 1, value: given[n] ?? 50,
        ariaLabel: `Grade of sound ${n + 1}`,
        oninput: () => { given[n] = Number(range.value); out.textContent = range.value; },
      });
      return make("div", { className: "grade" }, rows[n], range, out);
    }));
}

function remember(body) {
  try {
    if (body) localStorage.setItem(pendingName, JSON.stringify(body));
    else localStorage.removeItem(pendingName);
  } catch {
    // private windows may refuse; the answer is still sent until it is stored
  }
}

function remembered() {
  try {
    return localStorage.getItem(pendingName);
  } catch {
    return null; // storage is blocked: there was nothing to remember
  }
}

async function begin() {
  const pending = remembered();
  if (pending) { // the page was closed before the server said that it is stored
    await call("answers", JSON.parse(pending));
    remember(null);
  }
  draw(await call("state"));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const run = shortcuts[event.key.toLowerCase()];
  if (run) {
    event.preventDefault();
    run();
  }
});
begin();
