// What callers hear before they leave a message, said into the microphone.

import { Told } from './address';
import type { Devices } from './devices';

/** In ms: nobody waits for longer. */
const LONGEST = 60_000;
/** Octets of a WAV file before its samples. */
const HEAD = 44;

export class Speech {
  private constructor(
    private readonly recorder: MediaRecorder,
    private readonly kept: Promise<Blob>,
  ) {}

  /** Begins to record; `full` is called where it has lasted as long as it may. */
  static async begin(devices: Devices, full: () => void): Promise<Speech> {
    const stream = await devices.microphone();
    const recorder = new MediaRecorder(stream);
    const parts: Blob[] = [];
    const kept = new Promise<Blob>((resolve) => {
      recorder.addEventListener('dataavailable', ({ data }) => parts.push(data));
      recorder.addEventListener('stop', () => {
        clearTimeout(limit);
        stream.getTracks().forEach((track) => track.stop());
        resolve(new Blob(parts));
      });
    });
    const limit = setTimeout(full, LONGEST);
    recorder.start();
    return new Speech(recorder, kept);
  }

  cancel(): void {
    if (this.recorder.state !== 'inactive') this.recorder.stop();
  }

  /** Ends, and gives what was said as the server takes it. */
  async end(): Promise<Blob> {
    this.cancel();
    const context = new AudioContext();
    try {
      const sound = await context.decodeAudioData(await (await this.kept).arrayBuffer());
      return wav(sound.getChannelData(0), sound.sampleRate);
    } catch {
      throw new Told('Nothing was recorded. Check the microphone and try again.');
    } finally {
      void context.close();
    }
  }
}

/** One channel of 16 bits. */
export function wav(samples: Float32Array, rate: number): Blob {
  const view = new DataView(new ArrayBuffer(HEAD + samples.length * 2));
  const text = (at: number, letters: string) => {
    [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  };
  text(0, 'RIFF');
  view.setUint32(4, view.byteLength - 8, true);
  text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, 'data');
  view.setUint32(40, samples.length * 2, true);
  samples.forEach((sample, index) => {
    view.setInt16(HEAD + index * 2, Math.max(-1, Math.min(1, sample)) * 32_767, true);
  });
  return new Blob([view], { type: 'audio/wav' });
}
