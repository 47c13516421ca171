// SIP addresses and what people type in place of them.

export interface Address {
  user: string;
  domain: string;
}

/** Something went wrong that a person can do something about: the message says what. */
export class Told extends Error {}

const LABEL = '[a-z0-9](?:[a-z0-9-]*[a-z0-9])?';
const DOMAIN = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`);
// RFC 3261 §25.1, user: unreserved and user-unreserved.
const USER = /^[A-Za-z0-9\-_.!~*'()&=+$,;?/%]+$/;

/** `alice@acme.example`, also with `sip:` before it. */
export function parseAddress(text: string): Address {
  const bare = text.trim().replace(/^sips?:/i, '');
  const at = bare.lastIndexOf('@');
  const [user, domain] = [bare.slice(0, at), bare.slice(at + 1).toLowerCase()];
  if (at < 1 || !USER.test(user) || !DOMAIN.test(domain)) {
    throw new Told('Write your address as name@domain, for example alice@acme.example.');
  }
  return { user, domain };
}

/** The address that a number, a name or an address stands for, in our domain if none is named. */
export function parseTarget(text: string, domain: string): Address {
  const bare = text.trim().replace(/^(?:sips?|tel):/i, '');
  if (bare === '') throw new Told('Type a number, a name or an address first.');
  if (bare.includes('@')) {
    try {
      return parseAddress(bare);
    } catch {
      throw new Told(`“${text.trim()}” is no address. Write it as name@domain.`);
    }
  }
  // Numbers are written with all kinds of spaces and signs between.
  const number = bare.replace(/[\s().\-/]/g, '');
  const user = /^\+?[0-9*#]+$/.test(number) ? number.replace(/#/g, '%23') : bare;
  if (!USER.test(user)) {
    throw new Told(`“${text.trim()}” cannot be called. Type a number, a name, or name@domain.`);
  }
  return { user, domain };
}

/** How an address is shown: without the domain where it is our own. */
export function shown(address: Address, domain: string): string {
  const user = decodeURIComponent(address.user.replace(/%(?![0-9A-Fa-f]{2})/g, '%25'));
  return address.domain === domain ? user : `${user}@${address.domain}`;
}
