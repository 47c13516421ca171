// Calls that are over, for as long as the page is open.

import { type Address, shown } from './address';
import type { Call } from './call';
import { byId, element, icon } from './dom';
import { duration } from './words';

const MOST = 30;

export class Recent {
  private readonly list = byId('recent');

  constructor(
    private readonly domain: () => string,
    private readonly again: (target: string) => void,
  ) {}

  add(call: Call): void {
    const { uri } = call.session.remoteIdentity;
    const address: Address = { user: uri.user ?? '', domain: uri.host.toLowerCase() };
    const target = shown(address, this.domain());
    const { missed } = call;
    const symbol = missed ? 'missed' : call.incoming ? 'incoming' : 'outgoing';
    const kind = missed ? 'Missed' : call.incoming ? 'Incoming' : 'Outgoing';
    const ended = new Date(call.ended ?? Date.now());
    const talked = call.began ? duration((ended.getTime() - call.began) / 1000) : 'not answered';
    const time = element('time', '', ended.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
    time.dateTime = ended.toISOString();
    const words = element('span', '', element('b', '', call.who), element('small', '', `${kind}, ${talked}`));
    const button = element('button', 'past', icon(symbol), words, time);
    button.type = 'button';
    button.dataset.missed = String(missed);
    button.title = `Call ${target}`;
    button.addEventListener('click', () => this.again(target));
    this.list.prepend(element('li', '', button));
    while (this.list.childElementCount > MOST) this.list.lastElementChild?.remove();
    byId('no-recent').hidden = true;
  }

  clear(): void {
    this.list.replaceChildren();
    byId('no-recent').hidden = false;
  }
}
