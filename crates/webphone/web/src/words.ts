// What happened, in words that say what to do next.

/** Why a call did not come about, by the final response to its INVITE. */
export function refusal(status: number, who: string): string {
  switch (status) {
    case 401:
    case 403:
    case 407:
      return `You may not call ${who}. Ask your administrator if you should be able to.`;
    case 404:
    case 484:
    case 604:
      return `There is no ${who}. Check the number or the name.`;
    case 408:
      return `No answer came for the call to ${who}. Try again in a moment.`;
    case 410:
      return `${who} is no longer in use.`;
    case 415:
    case 488:
    case 606:
      return `${who} has no phone that can talk with this browser. Try another number.`;
    case 480:
      return `${who} is not available now. Try again later.`;
    case 486:
    case 600:
      return `${who} is busy. Try again later.`;
    case 487:
      return 'Call cancelled.';
    case 603:
      return `${who} declined the call.`;
    case 503:
      return 'The server is too busy to place the call. Try again in a minute.';
    default:
      return `The call to ${who} could not be placed (code ${status}). Try again in a minute.`;
  }
}

/** Why there is no sign-in, by the final response to REGISTER. */
export function registration(status: number, address: string): string {
  switch (status) {
    case 401:
    case 403:
    case 404:
    case 407:
      return `${address} and the password do not fit. Check both and try again.`;
    case 302:
      return 'This account may be used in its home region only. Open the web phone there.';
    case 503:
      return 'The server is too busy to sign you in. Try again in a minute.';
    case 400:
    case 500:
    default:
      return `The server did not sign you in (code ${status}). Try again in a minute.`;
  }
}

/** Why there is no microphone, by the name of getUserMedia's error. */
export function microphone(error: unknown): string {
  switch (error instanceof Error ? error.name : '') {
    case 'NotAllowedError':
    case 'SecurityError':
      return 'The browser does not let this page use the microphone. Click the symbol left of the address, allow the microphone, and try again.';
    case 'NotFoundError':
      return 'No microphone was found. Connect one and try again.';
    case 'NotReadableError':
    case 'AbortError':
      return 'The microphone cannot be opened: another program may be using it. Close that program and try again.';
    case 'OverconstrainedError':
      return 'The microphone you chose is not connected any more. Choose another one in Settings.';
    default:
      return 'The microphone cannot be used. Check that one is connected, and try again.';
  }
}

export function duration(seconds: number): string {
  const two = (count: number) => String(count).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = two(Math.floor(seconds) % 60);
  return hours > 0 ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}
