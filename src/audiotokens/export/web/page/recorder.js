// Hands the microphone's samples on, in pieces of 10 ms.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate / 100));
    this.filled = 0;
  }

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this.piece[this.filled++] = sample;
      if (this.filled < this.piece.length) continue;
      this.port.postMessage(this.piece, [this.piece.buffer]);
      this.piece = new Float32Array(Math.round(sampleRate / 100));
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
