// Where an account lives and where its phone connects: asked of the console
// that served the page, by the domain alone.

import { Told } from './address';

export interface Place {
  domain: string;
  home: { region: string; jurisdiction: string | null; phone_url: string | null };
  /** What is dialled to hear the own mailbox. */
  voicemail_code: string | null;
  edge: { region: string; jurisdiction: string; wss: string[]; serves: boolean };
}

export async function lookUp(domain: string): Promise<Place> {
  let answer: Response;
  try {
    const query = new URLSearchParams({ Domain: domain });
    answer = await fetch(`/v1/phone?${query}`, { cache: 'no-store', credentials: 'omit' });
  } catch {
    throw new Told('The server does not answer. Check your connection and try again.');
  }
  if (answer.status === 404) {
    const problem = (await answer.json().catch(() => ({}))) as { type?: string };
    throw new Told(
      problem.type?.endsWith('unknown-domain')
        ? `There is no account with the domain ${domain}. Check the part after the @.`
        : 'This server takes no calls from browsers. Ask your administrator which one does.',
    );
  }
  if (answer.status === 429) throw new Told('Too many attempts. Wait a minute and try again.');
  if (!answer.ok) throw new Told('The server cannot answer just now. Try again in a minute.');
  const place = (await answer.json()) as Place;
  if (!place.edge.serves) {
    const where = place.home.phone_url ?? `the web phone of region ${place.home.region}`;
    throw new Told(`${domain} may be used in its home region only. Sign in at ${where} instead.`);
  }
  return place;
}

const countries = new Intl.DisplayNames(['en'], { type: 'region', fallback: 'code' });

/** `ie1 · Ireland` */
export function regionName(region: string, jurisdiction: string | null): string {
  return jurisdiction ? `${region} · ${countries.of(jurisdiction) ?? jurisdiction}` : region;
}
