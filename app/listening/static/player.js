// Players of one page: at most one sounds at a time; how long each was heard is counted by the
// sound card's own clock, so a stalled or silent device does not count as listening.

let shared = null;

function audio() {
  shared ??= new AudioContext();
  return shared;
}

async function fetchSound(url) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const reply = await fetch(url, { cache: "no-store" });
      if (reply.ok) return await audio().decodeAudioData(await reply.arrayBuffer());
      if (reply.status < 500) throw new TypeError("refused");
    } catch (error) {
      if (error.message === "refused") throw error;
    }
    await new Promise((go) => setTimeout(go, wait));
  }
}

export class Players {
  // together: going from one player to another keeps the place in the sound (mushra).
  constructor(urls, { together = false, changed = () => {} } = {}) {
    this.urls = urls;
    this.together = together;
    this.changed = changed;
    this.sounds = urls.map(() => null);
    this.places = urls.map(() => 0);
    this.heard = urls.map(() => 0);
    this.plays = [];
    this.current = null;
    this.asked = 0; // counts presses: a sound that takes long to start gives way to a later press
    this.shownAt = performance.now();
  }

  async load() {
    // All at once: the order in which they arrive says nothing about what they are.
    await Promise.all(
      this.urls.map(async (url, n) => {
        this.sounds[n] = await fetchSound(url);
        this.changed();
      }),
    );
  }

  duration(n) {
    return this.sounds[n]?.duration ?? 0;
  }

  place(n) {
    if (this.current?.n !== n) return this.places[n];
    return Math.min(this.current.from + audio().currentTime - this.current.began, this.duration(n));
  }

  heardOf(n) {
    const now = this.current?.n === n ? this.place(n) - this.current.from : 0;
    return this.heard[n] + now;
  }

  isPlaying(n) {
    return this.current?.n === n;
  }

  async toggle(n) {
    if (this.isPlaying(n)) return this.stop();
    const from = this.together && this.current ? this.place(this.current.n) : this.places[n];
    this.stop();
    if (!this.sounds[n]) return;
    const asked = this.asked;
    await audio().resume();
    if (asked !== this.asked) return; // something else was pressed, or the page has gone on
    const node = audio().createBufferSource();
    node.buffer = this.sounds[n];
    node.connect(audio().destination);
    const start = from >= this.duration(n) - 0.05 ? 0 : from;
    this.current = {
      n, node, from: start, began: audio().currentTime,
      at: (performance.now() - this.shownAt) / 1000,
    };
    node.onended = () => {
      if (this.current?.node === node) this.stop(true);
    };
    node.start(0, start);
    this.tick();
  }

  stop(ended = false) {
    this.asked += 1;
    const current = this.current;
    if (!current) return;
    const place = ended ? this.duration(current.n) : this.place(current.n);
    const seconds = Math.max(0, place - current.from);
    this.heard[current.n] += seconds;
    this.places[current.n] = ended ? 0 : place;
    this.plays.push({
      player: current.n,
      seconds: Math.round(seconds * 100) / 100,
      at_s: Math.round(current.at * 100) / 100,
    });
    this.current = null;
    current.node.onended = null;
    current.node.stop();
    this.changed();
  }

  tick() {
    this.changed();
    if (this.current) setTimeout(() => this.tick(), 100);
  }
}
