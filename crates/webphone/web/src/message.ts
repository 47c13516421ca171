// One message in the list of the mailbox.

import type { Devices } from './devices';
import { element, icon, write } from './dom';
import { duration } from './words';

export interface Message {
  sid: string;
  /** `null` where it was erased. */
  from: string | null;
  /** RFC 3339. */
  left_at: string;
  duration_ms: number;
  heard: boolean;
  cut_short: boolean;
}

export interface Deeds {
  play(row: MessageRow): void;
  /** It has begun to play. */
  heard(row: MessageRow): void;
  call(row: MessageRow): void;
  remove(row: MessageRow): void;
}

export class MessageRow {
  readonly root: HTMLLIElement;
  message!: Message;
  private url = '';
  private readonly player = new Audio();
  private readonly who_ = element('b', '');
  private readonly tag = element('em', 'tag', 'New');
  private readonly facts = element('small', '');
  private readonly playButton: HTMLButtonElement;
  private readonly callButton: HTMLButtonElement;
  private readonly removeButton: HTMLButtonElement;

  constructor(
    private readonly devices: Devices,
    deeds: Deeds,
  ) {
    this.playButton = this.button('play', 'resume', () => deeds.play(this));
    this.callButton = this.button('call-back', 'call', () => deeds.call(this));
    this.removeButton = this.button('delete', 'delete', () => deeds.remove(this));
    const head = element('span', 'head', this.who_, this.tag);
    const words = element('div', 'words', head, this.facts);
    this.player.controls = true;
    this.player.hidden = true;
    this.player.preload = 'auto';
    devices.plays(this.player, 'speaker');
    this.player.addEventListener('playing', () => {
      if (!this.message.heard) deeds.heard(this);
    });
    const row = element('div', 'row', this.playButton, words, this.callButton, this.removeButton);
    this.root = element('li', 'message', row, this.player);
  }

  get who(): string {
    return this.message.from ?? 'Unknown caller';
  }

  get when(): string {
    const at = new Date(this.message.left_at);
    const today = at.toDateString() === new Date().toDateString();
    const day: Intl.DateTimeFormatOptions = today ? {} : { day: 'numeric', month: 'short' };
    return at.toLocaleString([], { ...day, hour: '2-digit', minute: '2-digit' });
  }

  update(message: Message): void {
    this.message = message;
    const { heard, duration_ms, cut_short, from, sid } = message;
    this.root.dataset.sid = sid;
    this.root.dataset.heard = String(heard);
    write(this.who_, this.who);
    this.tag.hidden = heard;
    const long = duration(Math.max(1, Math.round(duration_ms / 1000)));
    write(this.facts, [this.when, long, ...(heard ? ['heard'] : []), ...(cut_short ? ['cut short'] : [])].join(' · '));
    const whose = `the message from ${this.who}, ${this.when}`;
    this.name(this.playButton, `Play ${whose}`);
    this.name(this.callButton, `Call ${this.who} back`);
    this.name(this.removeButton, `Delete ${whose}`);
    this.player.setAttribute('aria-label', `Sound of ${whose}`);
    this.callButton.hidden = !from || from === 'anonymous';
  }

  /** Fetches the sound once, as long as the row is there. */
  async play(sound: () => Promise<string>): Promise<void> {
    if (!this.url) {
      this.playButton.disabled = true;
      try {
        this.url = await sound();
      } finally {
        this.playButton.disabled = false;
      }
      if (!this.root.isConnected) return URL.revokeObjectURL(this.url);
      this.player.src = this.url;
      this.player.hidden = false;
    }
    this.player.currentTime = 0;
    await this.player.play();
  }

  pause(): void {
    this.player.pause();
  }

  remove(): void {
    this.pause();
    this.devices.forget(this.player);
    if (this.url) URL.revokeObjectURL(this.url);
    this.root.remove();
  }

  private button(deed: string, symbol: string, done: () => void): HTMLButtonElement {
    const button = element('button', 'tool', icon(symbol), element('span', 'hidden'));
    button.type = 'button';
    button.dataset.deed = deed;
    button.addEventListener('click', done);
    return button;
  }

  private name(button: HTMLButtonElement, words: string): void {
    const hidden = button.querySelector('.hidden');
    if (hidden) write(hidden, words);
    button.title = words;
  }
}
