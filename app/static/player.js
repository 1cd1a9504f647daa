// Sound that comes in pieces, played without a gap: 16-bit samples, channels interleaved.

export class Player {
  // leadS: seconds from the first sound to its start, room for the second.
  constructor(rate, channels, leadS = 0.06) {
    this.leadS = leadS;
    this.rate = rate;
    this.channels = channels;
    this.context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 2048;
    this.analyser.connect(this.context.destination);
    this.pieces = []; // { at: context time, from: second of the sound, length }
    this.next = 0; // context time where the next piece goes
    this.made = 0; // seconds that have come
    this.waits = 0; // times that playing caught up with what comes
  }

  // Seconds that were heard.
  played() {
    const now = this.context.currentTime;
    while (this.pieces.length > 1 && this.pieces[1].at <= now) this.pieces.shift();
    const piece = this.pieces[0];
    if (!piece || piece.at > now) return piece ? piece.from : 0;
    return piece.from + Math.min(now - piece.at, piece.length);
  }

  // Take the next samples, an ArrayBuffer.
  add(bytes) {
    const frames = Math.floor(bytes.byteLength / 2 / this.channels);
    if (!frames || this.context.state === "closed") return;
    const numbers = new Int16Array(bytes, 0, frames * this.channels);
    const buffer = this.context.createBuffer(this.channels, frames, this.rate);
    for (let c = 0; c < this.channels; c++) {
      const data = buffer.getChannelData(c);
      for (let i = 0; i < frames; i++) data[i] = numbers[i * this.channels + c] / 32767;
    }
    const now = this.context.currentTime;
    if (this.next < now + 0.005) {
      if (this.made) this.waits += 1;
      this.next = now + Math.min(1, this.leadS * 2 ** Math.min(this.waits, 4)); // more after each wait
    }
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.analyser);
    source.start(this.next);
    this.pieces.push({ at: this.next, from: this.made, length: frames / this.rate });
    this.next += frames / this.rate;
    this.made += frames / this.rate;
  }

  // How loud it is now.
  level() {
    const data = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatTimeDomainData(data);
    return Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
  }

  async close() {
    if (this.context.state !== "closed") await this.context.close();
  }
}
