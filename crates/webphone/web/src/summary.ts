// Messages that wait (RFC 3842), as a NOTIFY tells of them.

export interface Waiting {
  fresh: number;
  heard: number;
}

/** `null` where the body says nothing of voice messages. */
export function waiting(body: string): Waiting | null {
  const found = /^Voice-Message\s*:\s*(\d+)\s*\/\s*(\d+)/im.exec(body);
  return found ? { fresh: Number(found[1]), heard: Number(found[2]) } : null;
}

/** `2 new messages` */
export function told(fresh: number): string {
  return fresh === 0 ? 'No new messages' : `${fresh} new message${fresh === 1 ? '' : 's'}`;
}
