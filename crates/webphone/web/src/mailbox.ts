// The user's mailbox: how many messages wait, what they say, and the greeting.

import { type Address, Told } from './address';
import { notice, say } from './announce';
import type { Devices } from './devices';
import { byId, write } from './dom';
import { Speech } from './greeting';
import { type Message, MessageRow } from './message';
import type { Place } from './place';
import { Proof } from './proof';
import { told } from './summary';

interface Box {
  enabled: boolean;
  messages: Message[];
  new_messages: number;
  own_greeting: boolean;
}

export class Mailbox {
  private proof: Proof | null = null;
  private place: Place | null = null;
  private fresh = 0;
  private speech: Speech | null = null;
  /** The browser asks for the microphone. */
  private beginning = false;
  /** One look at a time: the last asked for counts. */
  private looks = 0;
  private readonly rows = new Map<string, MessageRow>();
  private readonly section = byId('mailbox');
  private readonly button = byId<HTMLButtonElement>('open-mailbox');
  private readonly forget = byId<HTMLDialogElement>('forget');

  constructor(
    private readonly devices: Devices,
    private readonly dial: (target: string) => void,
  ) {
    this.button.addEventListener('click', () => {
      this.section.scrollIntoView({ block: 'start' });
      byId('mailbox-title').focus();
    });
    byId('listen').addEventListener('click', () => dial(this.place?.voicemail_code ?? ''));
    byId('greet').addEventListener('click', () => this.attempt(this.greet()));
    byId('greet-cancel').addEventListener('click', () => this.stopGreeting());
    byId('ungreet').addEventListener('click', () => this.attempt(this.ungreet()));
    byId('hear-greeting').addEventListener('click', () => this.attempt(this.hearGreeting()));
    devices.plays(byId<HTMLAudioElement>('greeting-player'), 'speaker');
  }

  /** Somebody is signed in. Messages are read in their home region alone. */
  open(place: Place, address: Address, password: string): void {
    this.place = place;
    const atHome = place.edge.region === place.home.region;
    this.proof = atHome ? new Proof(address, password) : null;
    byId('listen').hidden = !place.voicemail_code;
    byId('mailbox-home').hidden = atHome;
    byId('greeting').hidden = !atHome;
    const link = byId<HTMLAnchorElement>('mailbox-link');
    link.hidden = !place.home.phone_url;
    if (place.home.phone_url) link.href = place.home.phone_url;
    this.attempt(this.look());
  }

  close(): void {
    [this.proof, this.place, this.fresh] = [null, null, 0];
    this.looks++;
    this.stopGreeting();
    this.silence();
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    if (this.forget.open) this.forget.close();
    this.section.hidden = this.button.hidden = true;
  }

  /** By the server's word (RFC 3842). */
  counted(fresh: number, heard: number): void {
    if (!this.place) return;
    this.count(fresh);
    if (fresh + heard > 0) this.show();
    this.attempt(this.look());
  }

  private count(fresh: number): void {
    const more = fresh > this.fresh;
    this.fresh = fresh;
    write(byId('mailbox-badge'), fresh > 0 ? String(fresh) : '');
    write(byId('mailbox-words'), `Voicemail: ${told(fresh)}`);
    write(byId('mailbox-count'), told(fresh));
    if (more) say(told(fresh));
  }

  private show(): void {
    this.section.hidden = this.button.hidden = false;
  }

  private attempt(deed: Promise<unknown>): void {
    deed.catch((error: unknown) => {
      notice(error instanceof Told ? error.message : 'That did not work. Try again.');
    });
  }

  private async look(): Promise<void> {
    const [proof, look] = [this.proof, ++this.looks];
    if (!proof) return;
    const answer = await proof.ask('GET', 'voicemail.json');
    const box = (await answer.json()) as Box;
    if (look !== this.looks) return;
    if (box.enabled || box.messages.length > 0) this.show();
    this.count(box.new_messages);
    this.list(box.messages);
    this.greeted(box.own_greeting);
  }

  private list(messages: Message[]): void {
    const there = new Set(messages.map(({ sid }) => sid));
    for (const [sid, row] of this.rows) {
      if (there.has(sid)) continue;
      row.remove();
      this.rows.delete(sid);
    }
    const list = byId('messages');
    messages.forEach((message, index) => {
      let row = this.rows.get(message.sid);
      if (!row) {
        row = new MessageRow(this.devices, {
          play: (it) => this.attempt(this.play(it)),
          heard: (it) => this.attempt(this.heard(it)),
          call: (it) => it.message.from && this.dial(it.message.from),
          remove: (it) => this.ask(it),
        });
        this.rows.set(message.sid, row);
      }
      // What stands where it should is not moved: it would stop playing.
      if (list.children[index] !== row.root) list.insertBefore(row.root, list.children[index] ?? null);
      row.update(message);
    });
    byId('no-messages').hidden = messages.length > 0 || !this.proof;
  }

  private async sound(what: string): Promise<string> {
    if (!this.proof) throw new Told('You are signed out.');
    const answer = await this.proof.ask('GET', what);
    return URL.createObjectURL(await answer.blob());
  }

  /** One at a time. */
  private silence(but?: MessageRow): void {
    for (const row of this.rows.values()) if (row !== but) row.pause();
    byId<HTMLAudioElement>('greeting-player').pause();
  }

  private async play(row: MessageRow): Promise<void> {
    this.silence(row);
    await row.play(() => this.sound(`voicemail/${row.message.sid}.wav`));
  }

  private async heard(row: MessageRow): Promise<void> {
    await this.proof?.ask('POST', `voicemail/${row.message.sid}.json`, { heard: 'on' });
    await this.look();
  }

  private ask(row: MessageRow): void {
    write(byId('forget-what'), `${row.who}, ${row.when}`);
    this.forget.returnValue = '';
    this.forget.onclose = () => {
      if (this.forget.returnValue === 'delete') this.attempt(this.remove(row));
    };
    this.forget.showModal();
  }

  private async remove(row: MessageRow): Promise<void> {
    row.pause();
    await this.proof?.ask('DELETE', `voicemail/${row.message.sid}.json`);
    say('The message is deleted.');
    await this.look();
    byId('mailbox-title').focus();
  }

  // ── the greeting

  private greeted(own: boolean): void {
    const words = own ? 'Callers hear your own greeting.' : 'Callers hear the usual greeting.';
    if (!this.speech) write(byId('greeting-state'), words);
    byId('ungreet').hidden = byId('hear-greeting').hidden = !own;
  }

  private recording(on: boolean): void {
    write(byId('greet'), on ? 'Stop and use it' : 'Record a greeting');
    byId('greet-cancel').hidden = !on;
  }

  private async greet(): Promise<void> {
    const { speech, proof } = this;
    if (!proof || this.beginning) return;
    if (!speech) {
      this.silence();
      this.beginning = true;
      const begun = await Speech.begin(this.devices, () => this.attempt(this.greet())).finally(
        () => (this.beginning = false),
      );
      // While the browser asked for the microphone somebody signed out.
      if (this.proof !== proof) return begun.cancel();
      this.speech = begun;
      this.recording(true);
      write(byId('greeting-state'), 'Recording. Say that nobody takes the call, and that a message is recorded.');
      return;
    }
    this.speech = null;
    this.recording(false);
    try {
      await proof.ask('PUT', 'greeting.wav', await speech.end());
    } finally {
      await this.look();
    }
  }

  private stopGreeting(): void {
    this.speech?.cancel();
    this.speech = null;
    this.recording(false);
    if (this.proof) this.attempt(this.look());
  }

  private async ungreet(): Promise<void> {
    await this.proof?.ask('DELETE', 'greeting.wav');
    await this.look();
    byId('greet').focus();
  }

  private async hearGreeting(): Promise<void> {
    this.silence();
    const player = byId<HTMLAudioElement>('greeting-player');
    const { proof } = this;
    const url = await this.sound('greeting.wav');
    if (this.proof !== proof) return URL.revokeObjectURL(url);
    player.onended = player.onpause = () => URL.revokeObjectURL(url);
    player.src = url;
    await player.play();
  }
}
