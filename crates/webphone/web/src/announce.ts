// What the page says by itself: notices, spoken words, notifications.

import { byId, element, icon } from './dom';

/** Something a person should read; it stays until it is closed or replaced. */
export function notice(text: string): void {
  const close = element('button', 'tool', icon('close'), element('span', 'hidden', 'Close the message'));
  close.type = 'button';
  close.addEventListener('click', clearNotice);
  byId('notice').replaceChildren(element('p', '', text), close);
}

export function clearNotice(): void {
  byId('notice').replaceChildren();
}

/** For screen readers: what others see at a glance. */
export function say(text: string): void {
  const region = byId('announce');
  // The same words twice are said twice.
  region.textContent = region.textContent === text ? `${text}\u00a0` : text;
}

let shown: Notification | null = null;

/** Where the person is looking elsewhere and has allowed it. */
export function notify(text: string): void {
  if (!('Notification' in window) || Notification.permission !== 'granted' || !document.hidden) return;
  try {
    shown = new Notification('Landline', { body: text, icon: 'icon.svg', tag: 'call' });
    shown.onclick = () => {
      window.focus();
      shown?.close();
    };
  } catch {
    // Some phones want a service worker for it: the ring has to do there.
    shown = null;
  }
}

export function withdraw(): void {
  shown?.close();
  shown = null;
}
