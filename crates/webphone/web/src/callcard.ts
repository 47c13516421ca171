// A call as it is seen: who, how it stands, where, how good, and what can be done.

import type { Call } from './call';
import { byId, element, icon, within, write } from './dom';
import { fill } from './keypad';
import { word } from './quality';
import { duration } from './words';

export interface Deeds {
  answer(call: Call): void;
  hangUp(call: Call): void;
  mute(call: Call): void;
  hold(call: Call): void;
  transfer(call: Call): void;
  press(call: Call, key: string): void;
}

type Deed = 'answer' | 'mute' | 'hold' | 'keys' | 'transfer' | 'end';

export class CallCard {
  readonly root: HTMLElement;
  private readonly buttons = new Map<Deed, HTMLButtonElement>();

  constructor(
    readonly call: Call,
    where: string,
    private readonly deeds: Deeds,
  ) {
    const template = byId<HTMLTemplateElement>('call-card');
    this.root = within(template.content.cloneNode(true) as DocumentFragment, '.call');
    write(within(this.root, '.where span'), where);
    this.root.append(call.player);
    fill(within(this.root, '.keys'), (key) => deeds.press(call, key));
    within(this.root, '.pad').addEventListener('keydown', (event) => this.typed(event));
    this.update();
  }

  update(): void {
    const { call, root } = this;
    root.dataset.state = call.state;
    root.dataset.held = String(call.held);
    root.setAttribute('aria-label', `Call with ${call.who}`);
    write(within(root, '.who'), call.who);
    write(within(root, '.face'), [...call.who.replace(/^\+/, '')][0] ?? '?');
    const doing = within(root, '.doing');
    doing.classList.toggle('broken', call.broken);
    write(doing, this.doing());
    this.tick();
    this.quality();
    write(within(root, '.pressed'), call.keys);
    this.actions();
  }

  /** Every second. */
  tick(): void {
    const { began, state } = this.call;
    const clock = within(this.root, '.clock');
    write(clock, began && state === 'talking' ? duration((Date.now() - began) / 1000) : '');
  }

  private doing(): string {
    const { call } = this;
    switch (call.state) {
      case 'calling':
        return 'Calling…';
      case 'ringing':
        return 'Ringing…';
      case 'incoming':
        return 'Incoming call';
      case 'answering':
        return 'Connecting…';
      case 'talking':
        if (call.broken) return 'Voice is interrupted. Trying to get it back…';
        if (call.held) return 'On hold';
        if (call.waits) return 'The other side has put you on hold';
        return call.muted ? 'Talking, you are muted' : 'Talking';
      case 'ended':
        return call.why;
    }
  }

  private quality(): void {
    const { quality, state, held, waits } = this.call;
    const line = within(this.root, '.quality');
    line.hidden = !quality || state !== 'talking' || held || waits;
    if (!quality) return;
    const number = (value: number | null, digits: number, unit: string) =>
      value === null ? '–' : `${value.toFixed(digits)} ${unit}`;
    const { mos } = quality;
    const level = mos === null ? 0 : mos >= 4 ? 4 : mos >= 3.6 ? 3 : mos >= 2.6 ? 2 : 1;
    within(line, '.bars').dataset.level = String(level);
    const score = mos === null ? 'Measuring' : `${word(mos)} (MOS ${mos.toFixed(1)})`;
    const rest = [
      `delay ${number(quality.roundTrip, 0, 'ms')}`,
      `loss ${number(quality.loss, 1, '%')}`,
      `jitter ${number(quality.jitter, 0, 'ms')}`,
    ];
    write(within(line, '.words'), [score, ...rest].join(' · '));
  }

  private actions(): void {
    const { call, deeds } = this;
    const talking = call.state === 'talking';
    const coming = call.state === 'incoming';
    this.action('answer', coming, 'call', 'Answer', () => deeds.answer(call)).classList.add('go');
    const mute = this.action('mute', talking, call.muted ? 'mute' : 'mic', 'Mute', () => deeds.mute(call));
    mute.setAttribute('aria-pressed', String(call.muted));
    const [symbol, label] = call.held ? ['resume', 'Resume'] : ['hold', 'Hold'];
    const hold = this.action('hold', talking, symbol!, label!, () => deeds.hold(call));
    hold.classList.toggle('on', call.held);
    const keys = this.action('keys', talking, 'keys', 'Keypad', () => this.togglePad());
    keys.setAttribute('aria-expanded', String(!within(this.root, '.pad').hidden));
    this.action('transfer', talking, 'transfer', 'Transfer', () => deeds.transfer(call));
    hold.disabled = call.changing;
    this.button('transfer').disabled = call.changing;
    const end = coming ? 'Decline' : talking ? 'Hang up' : 'Cancel';
    this.action('end', call.state !== 'ended', 'end', end, () => deeds.hangUp(call)).classList.add('end');
    if (!talking) within(this.root, '.pad').hidden = true;
  }

  private action(deed: Deed, here: boolean, symbol: string, label: string, act: () => void) {
    let button = this.buttons.get(deed);
    if (!button) {
      button = element('button', 'action');
      button.type = 'button';
      button.dataset.deed = deed;
      button.addEventListener('click', act);
      this.buttons.set(deed, button);
      within(this.root, '.actions').append(button);
    }
    button.hidden = !here;
    const look = `${symbol} ${label}`;
    if (button.dataset.look !== look) {
      button.dataset.look = look;
      button.replaceChildren(icon(symbol), element('span', '', label));
    }
    return button;
  }

  private button(deed: Deed): HTMLButtonElement {
    return this.buttons.get(deed)!;
  }

  focus(deed?: Deed): void {
    if (deed) this.button(deed).focus();
    else this.root.focus();
  }

  private togglePad(): void {
    const pad = within(this.root, '.pad');
    pad.hidden = !pad.hidden;
    this.update();
    if (!pad.hidden) within(pad, '.key').focus();
  }

  /** Digits typed while the pad has the focus. */
  private typed(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^[0-9*#]$/.test(event.key)) {
      event.preventDefault();
      this.deeds.press(this.call, event.key);
    } else if (event.key === 'Escape') {
      this.togglePad();
      this.focus('keys');
    }
  }
}
