// On hold, as the other side is told (RFC 3264 §8.4) and the browser is not: a browser
// whose direction changes mutes what it receives until it has noticed the first packet
// of the new time, and now and then notices it too early and stays mute.

/** What our browser made, for the other side: it is not to be heard. */
export function asHeld(sdp: string): string {
  return direct(sdp, { sendrecv: 'sendonly', recvonly: 'inactive' });
}

/** What the other side answered to that, for our browser: both go on. */
export function asAnswered(sdp: string): string {
  return direct(sdp, { recvonly: 'sendrecv', inactive: 'sendrecv' });
}

function direct(sdp: string, instead: Record<string, string>): string {
  return sdp.replace(/^a=(sendrecv|sendonly|recvonly|inactive)(?=\r?$)/gm, (line, was: string) =>
    was in instead ? `a=${instead[was]}` : line,
  );
}
