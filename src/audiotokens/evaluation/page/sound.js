"use strict";
// One recording in several versions. All of them run side by side and only one is audible: switching cannot lose the position.
class Deck {
  static FADE = 0.012; // seconds: short enough to feel instant, long enough not to click
  static KEPT = 2; // decoded recordings that stay in memory

  constructor(changed, { loop = false } = {}) {
    Object.assign(this, { changed, loop, ids: [], seconds: 0, version: 0, playing: false, failed: false });
    Object.assign(this, { context: null, sources: [], gains: [], decoded: new Map(), at: 0, startedAt: 0, ticket: 0 });
  }

  load(ids, seconds, version = 0) {
    const resume = this.playing;
    if (resume) this.stop();
    this.ticket += 1;
    Object.assign(this, { ids, seconds, version, at: 0, failed: false });
    this.changed();
    if (resume) this.play();
  }

  position() {
    if (!this.playing) return this.at;
    const passed = Math.max(this.context.currentTime - this.startedAt, 0);
    return this.loop ? passed % this.seconds : Math.min(passed, this.seconds);
  }

  async play() {
    const mine = (this.ticket += 1);
    try {
      this.context = this.context || new AudioContext();
      await this.context.resume();
      const buffers = await this.#buffers();
      if (mine !== this.ticket) return;
      if (this.at >= this.seconds - 0.05) this.at = 0;
      this.#start(buffers);
    } catch (error) {
      this.decoded.clear();
      this.failed = true;
      this.changed();
    }
  }

  stop() {
    this.ticket += 1;
    this.at = this.position();
    this.playing = false;
    this.sources.forEach((source) => source.stop());
    this.sources = [];
    this.gains = [];
    this.changed();
  }

  toggle() {
    if (this.playing) this.stop();
    else this.play();
  }

  seek(seconds) {
    const resume = this.playing;
    if (resume) this.stop();
    this.at = Math.min(Math.max(seconds, 0), this.seconds);
    this.changed();
    if (resume) this.play();
  }

  choose(version) {
    if (version < 0 || version >= this.ids.length) return;
    this.version = version;
    this.gains.forEach((gain, v) => gain.gain.setTargetAtTime(v === version ? 1 : 0, this.context.currentTime, Deck.FADE / 3));
    this.changed();
  }

  // Calls back while it plays, once for every picture of the screen.
  follow(moved) {
    const step = () => {
      if (!this.playing) return;
      if (!this.loop && this.position() >= this.seconds) {
        this.stop();
        this.at = 0;
        this.changed();
        return;
      }
      moved();
      requestAnimationFrame(step);
    };
    this.following = () => requestAnimationFrame(step);
  }

  #start(buffers) {
    const begin = this.context.currentTime + 0.02;
    const offset = Math.min(this.at, this.seconds);
    this.sources = [];
    this.gains = buffers.map((buffer, version) => {
      const source = new AudioBufferSourceNode(this.context, { buffer, loop: this.loop, loopEnd: this.seconds });
      const gain = new GainNode(this.context, { gain: version === this.version ? 1 : 0 });
      source.connect(gain).connect(this.context.destination);
      source.start(begin, offset);
      this.sources.push(source);
      return gain;
    });
    this.startedAt = begin - offset;
    this.playing = true;
    this.changed();
    if (this.following) this.following();
  }

  #buffers() {
    const key = this.ids.join();
    if (!this.decoded.has(key)) {
      const all = this.ids.map((id) => this.context.decodeAudioData(Deck.bytes(id).buffer));
      this.decoded.set(key, Promise.all(all));
      if (this.decoded.size > Deck.KEPT) this.decoded.delete(this.decoded.keys().next().value);
    }
    return this.decoded.get(key);
  }

  static bytes(id) {
    const text = atob(document.getElementById(id).textContent.trim());
    return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  }

  static clock(seconds) {
    const tenths = Math.round(seconds * 10);
    return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
  }
}
