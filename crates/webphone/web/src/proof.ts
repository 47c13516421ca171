// Asks the console for what is the user's own. Each request is proven by HTTP Digest
// (RFC 7616) with the password of the sign-in, which is sent nowhere; the browser's own
// way of it is not used, as it would ask in a window of its own.

import { type Address, Told } from './address';

/** Again for a nonce that is none yet, and for one that grew old. */
const TRIES = 3;

export class Proof {
  private readonly secret: Promise<string>;
  private nonce = '';
  private count = 0;

  constructor(
    private readonly address: Address,
    password: string,
  ) {
    const { user, domain } = address;
    this.secret = sha256(`${user}:${domain}:${password}`);
  }

  /** `what` is below the paths of the user's domain. */
  async ask(method: string, what: string, body?: Blob | object): Promise<Response> {
    const path = `/v1/phone/${encodeURIComponent(this.address.domain)}/${what}`;
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const headers = new Headers();
      // Another request may bring a nonce while this one is on its way without.
      const proven = this.nonce !== '';
      if (proven) headers.set('Authorization', await this.answer(method, path));
      if (body) headers.set('Content-Type', body instanceof Blob ? 'audio/wav' : 'application/json');
      const sent = body === undefined || body instanceof Blob ? body : JSON.stringify(body);
      let answer: Response;
      try {
        answer = await fetch(path, { method, headers, body: sent, cache: 'no-store', credentials: 'omit' });
      } catch {
        throw new Told('The server does not answer. Check your connection and try again.');
      }
      if (answer.ok) return answer;
      const challenge = answer.headers.get('WWW-Authenticate') ?? '';
      const nonce = /nonce="([^"]+)"/.exec(challenge)?.[1];
      const again = !proven || /stale=true/i.test(challenge);
      if (answer.status !== 401 || !nonce || !again) throw new Told(problem(answer.status));
      [this.nonce, this.count] = [nonce, 0];
    }
    throw new Told(problem(401));
  }

  private async answer(method: string, path: string): Promise<string> {
    const { user, domain } = this.address;
    const [nonce, count] = [this.nonce, (++this.count).toString(16).padStart(8, '0')];
    const own = crypto.randomUUID();
    const asked = await sha256(`${method}:${path}`);
    const response = await sha256(`${await this.secret}:${nonce}:${count}:${own}:auth:${asked}`);
    return (
      `Digest username="${user.replace(/(["\\])/g, '\\$1')}", realm="${domain}", nonce="${nonce}", ` +
      `uri="${path}", algorithm=SHA-256, qop=auth, nc=${count}, cnonce="${own}", response="${response}"`
    );
  }
}

function problem(status: number): string {
  switch (status) {
    case 401:
      return 'Your password has changed. Sign out, and sign in with the new one.';
    case 404:
      return 'It is not there any more.';
    case 410:
      return 'It was deleted.';
    case 429:
      return 'Too many attempts. Wait a minute and try again.';
    default:
      return 'The mailbox cannot be reached just now. Try again in a minute.';
  }
}

async function sha256(text: string): Promise<string> {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return [...new Uint8Array(hash)].map((octet) => octet.toString(16).padStart(2, '0')).join('');
}
