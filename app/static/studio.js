// What plays in the page itself: jams, two clips in step, points that sound. No library, nothing
// fetched from anywhere but this server. Python lays the elements out; here they are found by their
// data attributes when they are used, as the page may draw them anew at any time.
(() => {
  "use strict";
  const base = new URL(".", document.baseURI).href;
  const find = (name) => document.querySelector(`[data-studio="${name}"]`);
  const say = (name, text) => {
    const element = find(name);
    if (element && element.textContent !== text) element.textContent = text;
  };

  async function post(path, body) {
    const answer = await fetch(base + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!answer.ok) {
      let message = "The studio did not answer.";
      try {
        message = (await answer.json()).error || message;
      } catch { /* not ours: the plain sentence stays */ }
      throw new Error(message);
    }
    return answer;
  }

  // ---- the jam -------------------------------------------------------------------------------

  const FIRST_S = 0.12; // from the first sound to its start: room for the second
  const MOVE_MS = 90; // between two moves sent while a slider is dragged

  class LiveJam {
    constructor(facts) {
      this.id = facts.id;
      this.rate = facts.sample_rate;
      this.channels = facts.channels;
      this.seed = facts.seed;
      this.context = new AudioContext({ sampleRate: this.rate, latencyHint: "interactive" });
      this.analyser = this.context.createAnalyser();
      this.analyser.fftSize = 2048;
      this.analyser.connect(this.context.destination);
      this.pieces = []; // { at: context time, from: second of the jam, length }
      this.next = 0; // context time where the next piece goes
      this.made = 0; // seconds of the jam that have come
      this.waits = 0; // times that playing caught up with making
      this.running = true;
      this.moves = new Map(); // number -> { sent }: sent, and not reported yet
      this.early = new Map(); // number -> report that came first
      this.last = null; // the last move that was reported
      this.heardAfter = null; // seconds from that move to its sound
    }

    played() {
      const now = this.context.currentTime;
      while (this.pieces.length > 1 && this.pieces[1].at <= now) this.pieces.shift();
      const piece = this.pieces[0];
      if (!piece || piece.at > now) return piece ? piece.from : 0;
      return piece.from + Math.min(now - piece.at, piece.length);
    }

    add(bytes) {
      const frames = Math.floor(bytes.byteLength / 2 / this.channels);
      if (!frames) return;
      const numbers = new Int16Array(bytes, 0, frames * this.channels);
      const buffer = this.context.createBuffer(this.channels, frames, this.rate);
      for (let c = 0; c < this.channels; c++) {
        const data = buffer.getChannelData(c);
        for (let i = 0; i < frames; i++) data[i] = numbers[i * this.channels + c] / 32767;
      }
      const now = this.context.currentTime;
      if (this.next < now + 0.005) {
        if (this.made) this.waits += 1;
        this.next = now + Math.min(1, FIRST_S * 2 ** Math.min(this.waits, 3)); // more after each wait
      }
      const source = this.context.createBufferSource();
      source.buffer = buffer;
      source.connect(this.analyser);
      source.start(this.next);
      this.pieces.push({ at: this.next, from: this.made, length: frames / this.rate });
      this.next += frames / this.rate;
      this.made += frames / this.rate;
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

    level() {
      const data = new Float32Array(this.analyser.fftSize);
      this.analyser.getFloatTimeDomainData(data);
      return Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
    }

    async end() {
      this.running = false;
      try {
        await post(`studio/live/${this.id}/stop`, {});
      } catch { /* it had ended already */ }
      if (this.context.state !== "closed") await this.context.close();
    }
  }

  const live = { jam: null, model: "", pending: null, timer: 0, history: [] };

  function liveSettings() {
    const value = (name) => find(name)?.value;
    const number = (name) => (value(name) === undefined ? null : Number(value(name)));
    return {
      prompt: value("live-prompt"),
      diversity: number("live-dial"),
      guidance_scale: number("live-guidance"),
    };
  }

  async function liveStart() {
    const button = find("live-start");
    button.disabled = true;
    say("live-status", "Starting ...");
    find("live-kept").replaceChildren();
    showDial();
    try {
      if (live.jam) await live.jam.end();
      const wanted = liveSettings();
      if (!wanted.prompt.trim()) wanted.prompt = document.querySelector("#prompt textarea")?.value || "";
      find("live-prompt").value = wanted.prompt;
      wanted.model = live.model || button.dataset.model;
      if (!JSON.parse(button.dataset.dialled).includes(wanted.model)) wanted.diversity = null;
      const jam = new LiveJam(await (await post("studio/live/start", wanted)).json());
      live.jam = jam;
      live.history = [];
      await jam.context.resume();
      find("live-stop").disabled = find("live-keep").disabled = false;
      button.textContent = "Start anew";
      requestAnimationFrame(liveDraw);
      jam.listen().catch((error) => liveEnded(jam, error.message));
    } catch (error) {
      say("live-status", error.message);
    } finally {
      button.disabled = false;
    }
  }

  function liveEnded(jam, message) {
    if (live.jam !== jam) return;
    jam.running = false;
    say("live-status", message);
    find("live-stop").disabled = true;
  }

  async function liveStop() {
    if (!live.jam) return;
    const jam = live.jam;
    find("live-stop").disabled = true;
    await jam.end();
    say("live-status", `Stopped after ${jam.played().toFixed(0)} s. You can still keep it as a file.`);
  }

  function liveMove(what) {
    if (!live.jam?.running) return;
    live.pending = { ...live.pending, ...what };
    if (live.timer) return;
    const send = () => {
      live.timer = 0;
      const wanted = live.pending;
      live.pending = null;
      if (!wanted || !live.jam?.running) return;
      live.timer = setTimeout(send, MOVE_MS);
      live.jam.change(wanted).catch((error) => say("live-move", error.message));
    };
    send();
  }

  async function liveKeep() {
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
      kept.replaceChildren(link, ` ${file.seconds.toFixed(1)} s, ${file.moves} moves in its tags`);
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
      const waits = jam.waits ? `, playing had to wait ${jam.waits} times` : "";
      say("live-status", jam.made
        ? `Playing: ${jam.played().toFixed(0)} s, ${ahead.toFixed(1)} s of sound ahead${waits}. Seed ${jam.seed}.`
        : "Making the first sound ...");
      if (jam.last) {
        const left = jam.last.heard_at_s - jam.played();
        const when = left > 0 ? `heard in ${left.toFixed(1)} s` : `heard ${jam.heardAfter.toFixed(1)} s after the move`;
        say("live-move", `New weights stood ${jam.last.weights_ms.toFixed(0)} ms after the move; ${when}.`);
      }
      requestAnimationFrame(liveDraw);
    }
  }

  // ---- two clips in step ---------------------------------------------------------------------

  const pair = { context: null, playing: null };

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

  function pairFade() {
    const share = Number(find("pair-fade")?.value ?? 0.5);
    if (!pair.playing) return;
    const gains = [Math.cos((share * Math.PI) / 2), Math.sin((share * Math.PI) / 2)]; // equal power
    const now = pair.context.currentTime;
    pair.playing.gains.forEach((gain, i) => gain.gain.setTargetAtTime(gains[i], now, 0.012));
  }

  function pairAt() {
    if (!pair.playing) return pair.from || 0;
    const length = Math.max(...pair.buffers.map((b) => b.duration));
    return Math.min(length, pair.playing.from + Math.max(0, pair.context.currentTime - pair.playing.at));
  }

  function pairStop() {
    if (!pair.playing) return;
    pair.from = pairAt();
    pair.playing.sources.forEach((source) => {
      source.onended = null;
      source.stop();
    });
    pair.playing = null;
    find("pair-play").textContent = "Play both";
  }

  async function pairPlay(from) {
    const panel = find("pair");
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
    say("pair-status", `${pairAt().toFixed(1)} of ${length.toFixed(1)} s`);
    if (pair.playing) requestAnimationFrame(pairDraw);
  }

  // ---- points that sound ---------------------------------------------------------------------

  const point = { player: null, shown: null };

  function pointPlay(dot) {
    point.player ||= new Audio();
    point.shown?.classList.remove("playing");
    if (point.shown === dot && !point.player.paused) {
      point.player.pause();
      point.shown = null;
      return;
    }
    point.player.src = base + dot.dataset.play;
    point.player.play().catch(() => say("spread-status", "This clip is no longer here: draw it again."));
    point.player.onended = () => dot.classList.remove("playing");
    dot.classList.add("playing");
    point.shown = dot;
    say("spread-status", dot.getAttribute("aria-label"));
  }

  function dialColour(share) {
    const from = [47, 111, 183]; // quality: blue
    const to = [217, 98, 43]; // diversity: ember
    const mixed = from.map((x, i) => Math.round(x + (to[i] - x) * share));
    return `rgb(${mixed.join(",")})`;
  }

  function frontMark(front, value) {
    const mark = front.querySelector('[data-studio="front-mark"]');
    const places = JSON.parse(front.dataset.places); // [lam, x, y], in order of lam
    let i = places.findIndex((place) => place[0] >= value);
    if (i < 0) i = places.length - 1;
    const [a, b] = [places[Math.max(0, i - 1)], places[i]];
    const share = b[0] > a[0] ? Math.max(0, (value - a[0]) / (b[0] - a[0])) : 0;
    mark.setAttribute("transform", `translate(${a[1] + (b[1] - a[1]) * share} ${a[2] + (b[2] - a[2]) * share})`);
  }

  let dialStands = 0.5;

  function showDial() {
    document.querySelectorAll('[data-studio="front"]').forEach((front) => frontMark(front, dialStands));
    const slider = find("live-dial");
    if (slider && Number(slider.value) !== dialStands) {
      slider.value = dialStands;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }

  // ---- events --------------------------------------------------------------------------------

  const clicks = {
    "live-start": liveStart,
    "live-stop": liveStop,
    "live-keep": liveKeep,
    "live-say": () => liveMove({ prompt: find("live-prompt").value }),
    "pair-play": () => (pair.playing ? pairStop() : pairPlay()),
  };
  document.addEventListener("click", (event) => {
    const element = event.target.closest?.("[data-studio], [data-play]");
    if (element?.dataset.play) pointPlay(element);
    else if (element) clicks[element.dataset.studio]?.();
  });
  document.addEventListener("keydown", (event) => {
    const element = event.target;
    if (element.dataset?.play && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      pointPlay(element);
    }
    if (element.dataset?.studio === "live-prompt" && event.key === "Enter") clicks["live-say"]();
  });
  document.addEventListener("input", (event) => {
    const { studio } = event.target.dataset ?? {};
    if (studio === "live-dial") {
      dialStands = Number(event.target.value);
      say("live-dial-value", Number(event.target.value).toFixed(2));
      liveMove({ diversity: Number(event.target.value) });
    }
    if (studio === "live-guidance" && event.target.value) {
      liveMove({ guidance_scale: Number(event.target.value) });
    }
    if (studio === "pair-fade") pairFade();
    if (studio === "pair-at" && pair.buffers) {
      const length = Math.max(...pair.buffers.map((b) => b.duration));
      const at = Number(event.target.value) * length;
      if (pair.playing) pairPlay(at);
      else pair.from = at;
    }
  });
  // A tab's content is drawn when it is first opened: only then can it be told of the dial.
  new MutationObserver((changes) => {
    const drawn = '[data-studio="front"], [data-studio="live-dial"]';
    const added = changes.flatMap((change) => [...change.addedNodes]);
    if (added.some((node) => node.matches?.(drawn) || node.querySelector?.(drawn))) showDial();
  }).observe(document.documentElement, { childList: true, subtree: true });
  addEventListener("pagehide", () => {
    if (live.jam?.running) {
      const none = new Blob(["{}"], { type: "application/json" });
      navigator.sendBeacon(`${base}studio/live/${live.jam.id}/stop`, none);
    }
  });

  // The page's own slider moves the jam's, and the mark on the front.
  window.studio = {
    live,
    pair,
    pairAt,
    dial(value) {
      dialStands = value;
      showDial();
    },
    model(name) {
      live.model = name;
    },
  };
})();
