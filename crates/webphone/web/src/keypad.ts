// The twelve keys of a telephone.

import { element } from './dom';

const LETTERS: [key: string, letters: string, spoken: string][] = [
  ['1', '', ''],
  ['2', 'ABC', ''],
  ['3', 'DEF', ''],
  ['4', 'GHI', ''],
  ['5', 'JKL', ''],
  ['6', 'MNO', ''],
  ['7', 'PQRS', ''],
  ['8', 'TUV', ''],
  ['9', 'WXYZ', ''],
  ['*', '', 'star'],
  ['0', '+', ''],
  ['#', '', 'hash'],
];
/** How long the 0 is pressed for a plus, in ms. */
const LONG = 550;

/** Fills a group with keys. `plus` where a long 0 means one. */
export function fill(group: HTMLElement, pressed: (key: string) => void, plus = false): void {
  for (const [key, letters, spoken] of LETTERS) {
    const digit = element('b', '', key);
    const below = element('span', '', key === '0' && !plus ? '' : letters);
    if (spoken) below.append(element('i', 'hidden', spoken));
    const button = element('button', 'key', digit, below);
    button.type = 'button';
    button.dataset.key = key;
    if (key === '0' && plus) hearLong(button, pressed);
    else button.addEventListener('click', () => pressed(key));
    group.append(button);
  }
}

function hearLong(button: HTMLButtonElement, pressed: (key: string) => void): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let was = false;
  button.addEventListener('pointerdown', () => {
    was = false;
    timer = setTimeout(() => {
      was = true;
      pressed('+');
    }, LONG);
  });
  for (const end of ['pointerup', 'pointerleave', 'pointercancel'] as const) {
    button.addEventListener(end, () => clearTimeout(timer));
  }
  button.addEventListener('contextmenu', (event) => event.preventDefault());
  button.addEventListener('click', () => {
    if (!was) pressed('0');
    was = false;
  });
}
