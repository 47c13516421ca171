// What a phone sounds like: made here, so that nothing has to be fetched.

import type { Devices } from './devices';

/** Frequencies together in Hz, and a rhythm: seconds of sound and of silence. */
interface Tone {
  hz: number[];
  rhythm: [number, number][];
  level: number;
}

const TONES = {
  ring: { hz: [587, 784], rhythm: [[0.4, 0.2], [0.4, 2]], level: 0.16 },
  waiting: { hz: [425], rhythm: [[0.2, 0.2], [0.2, 4]], level: 0.06 },
  ringback: { hz: [425], rhythm: [[1, 4]], level: 0.05 },
} satisfies Record<string, Tone>;

export type ToneName = keyof typeof TONES;

const KEYS = '123A456B789C*0#D';
const ROWS = [697, 770, 852, 941];
const COLUMNS = [1209, 1336, 1477, 1633];

export class Tones {
  private context: AudioContext | null = null;
  private readonly players: Record<'ring' | 'speaker', HTMLAudioElement>;
  private readonly outputs = new Map<string, MediaStreamAudioDestinationNode>();
  private playing: { name: ToneName; stop: () => void } | null = null;

  constructor(devices: Devices) {
    this.players = { ring: new Audio(), speaker: new Audio() };
    devices.plays(this.players.ring, 'ring');
    devices.plays(this.players.speaker, 'speaker');
  }

  /** Browsers make sound only after a person did something: call it from a click or a key. */
  unlock(): void {
    this.context ??= new AudioContext();
    void this.context.resume();
  }

  /** One tone at a time; `null` for silence. */
  play(name: ToneName | null): void {
    if (this.playing?.name === name) return;
    this.playing?.stop();
    this.playing = null;
    if (!name) return;
    const tone: Tone = TONES[name];
    const gain = this.output(name === 'ring' ? 'ring' : 'speaker');
    if (!gain) return;
    const sources = tone.hz.map((hz) => this.source(hz, gain));
    gain.gain.value = 0;
    const period = tone.rhythm.reduce((sum, [on, off]) => sum + on + off, 0);
    const schedule = () => {
      let at = gain.context.currentTime + 0.02;
      for (const [on, off] of tone.rhythm) {
        gain.gain.setTargetAtTime(tone.level, at, 0.01);
        gain.gain.setTargetAtTime(0, at + on, 0.01);
        at += on + off;
      }
    };
    schedule();
    const timer = setInterval(schedule, period * 1000);
    const stop = () => {
      clearInterval(timer);
      for (const source of sources) source.stop();
      gain.disconnect();
    };
    this.playing = { name, stop };
  }

  /** What a pressed key sounds like at our own ear; the far end gets an event. */
  key(key: string): void {
    const at = KEYS.indexOf(key);
    const gain = at < 0 ? null : this.output('speaker');
    if (!gain) return;
    const now = gain.context.currentTime;
    gain.gain.value = 0.05;
    gain.gain.setTargetAtTime(0, now + 0.1, 0.01);
    for (const hz of [ROWS[at >> 2]!, COLUMNS[at & 3]!]) this.source(hz, gain).stop(now + 0.2);
    setTimeout(() => gain.disconnect(), 400);
  }

  private source(hz: number, into: GainNode): OscillatorNode {
    const source = new OscillatorNode(into.context, { frequency: hz });
    source.connect(into);
    source.start();
    return source;
  }

  private output(role: 'ring' | 'speaker'): GainNode | null {
    const context = this.context;
    if (!context || context.state === 'closed') return null;
    let output = this.outputs.get(role);
    if (!output) {
      output = new MediaStreamAudioDestinationNode(context);
      this.outputs.set(role, output);
      this.players[role].srcObject = output.stream;
    }
    this.players[role].play().catch(() => undefined);
    const gain = new GainNode(context);
    gain.connect(output);
    return gain;
  }
}
