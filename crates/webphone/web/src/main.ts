// The page: signed out or signed in, and what happens between.

import { Told, parseAddress, parseTarget } from './address';
import { clearNotice, notice, notify, say, withdraw } from './announce';
import type { Call } from './call';
import { CallCard, type Deeds } from './callcard';
import { Devices } from './devices';
import { byId, write } from './dom';
import { fill } from './keypad';
import { Line, type LineState } from './line';
import { Mailbox } from './mailbox';
import { type Place, lookUp, regionName } from './place';
import { Recent } from './recent';
import { Settings } from './settings';
import { Tones, type ToneName } from './tones';
import { Transfer } from './transfer';

/** The one thing that outlives the page. */
const REMEMBERED = 'landline.address';
/** How long an ended call says why. */
const LINGER = 4000;

const devices = new Devices();
const tones = new Tones(devices);
const cards = new Map<Call, CallCard>();
const target = byId<HTMLInputElement>('target');
let line: Line | null = null;
let where = '';

new Settings(devices, tones);
devices.addEventListener('lost', () => {
  notice('The chosen speaker is not connected any more. Sound comes from the system’s own.');
});
const transfer = new Transfer(() => line, (text) => {
  notice(text);
});
const recent = new Recent(
  () => line?.address.domain ?? '',
  (again) => void dial(again),
);

const mailbox = new Mailbox(devices, (who) => {
  tones.unlock();
  void dial(who);
});

const deeds: Deeds = {
  answer: (call) => attempt(line?.answer(call)),
  hangUp: (call) => attempt(call.hangUp()),
  mute: (call) => call.mute(!call.muted),
  hold: (call) => attempt(call.held ? line?.resume(call) : call.hold(true)),
  transfer: (call) => transfer.open(call),
  press: (call, key) => {
    tones.key(key);
    call.press(key);
  },
};

/** Does it; a person hears of what goes wrong. */
function attempt(deed: Promise<unknown> | undefined): void {
  clearNotice();
  deed?.catch((error: unknown) => {
    notice(error instanceof Told ? error.message : 'That did not work. Try again.');
  });
}

// ── signing in and out

const signInForm = byId<HTMLFormElement>('sign-in');
const addressField = byId<HTMLInputElement>('address');
const passwordField = byId<HTMLInputElement>('password');
const signInButton = byId<HTMLButtonElement>('sign-in-button');

signInForm.addEventListener('submit', (event) => {
  event.preventDefault();
  tones.unlock();
  void signIn();
});
byId('sign-out').addEventListener('click', () => void signOut());

async function signIn(): Promise<void> {
  clearNotice();
  let blamed = addressField;
  signInButton.disabled = true;
  write(signInButton, 'Signing in…');
  for (const field of [addressField, passwordField]) field.removeAttribute('aria-invalid');
  try {
    const address = parseAddress(addressField.value);
    const password = passwordField.value;
    if (password === '') {
      blamed = passwordField;
      throw new Told('Type your password.');
    }
    const place = await lookUp(address.domain);
    const opening = new Line(address, password, place, devices, {
      line: lineMoved,
      incoming,
      call: callChanged,
      waiting: ({ fresh, heard }) => mailbox.counted(fresh, heard),
    });
    blamed = passwordField;
    await opening.signIn();
    line = opening;
    passwordField.value = '';
    remember(addressField.value.trim());
    open(place);
    mailbox.open(place, address, password);
    opening.watch();
  } catch (error) {
    notice(error instanceof Told ? error.message : 'Signing in did not work. Try again in a minute.');
    blamed.setAttribute('aria-invalid', 'true');
    blamed.focus();
    blamed.select();
  } finally {
    signInButton.disabled = false;
    write(signInButton, 'Sign in');
  }
}

function open(place: Place): void {
  where = regionName(place.home.region, place.home.jurisdiction);
  write(byId('home-region'), where);
  write(byId('edge-region'), regionName(place.edge.region, place.edge.jurisdiction));
  show(true);
  lineMoved('ready');
  target.focus();
}

async function signOut(why = ''): Promise<void> {
  const former = line;
  line = null;
  await former?.signOut();
  for (const card of cards.values()) card.root.remove();
  cards.clear();
  recent.clear();
  mailbox.close();
  tones.play(null);
  show(false);
  if (why) notice(why);
  else clearNotice();
  (addressField.value ? passwordField : addressField).focus();
}

function show(signedIn: boolean): void {
  signInForm.hidden = signedIn;
  document.body.classList.toggle('signed-in', signedIn);
  for (const id of ['phone', 'tools', 'region', 'status']) byId(id).hidden = !signedIn;
  arrange();
}

function lineMoved(state: LineState, why?: string): void {
  if (!line) return;
  const status = byId('status');
  status.dataset.state = state;
  const { user, domain } = line.address;
  write(status, state === 'reconnecting' ? 'Reconnecting…' : `${user}@${domain}`);
  if (state === 'ended') void signOut(why);
  else if (why) notice(why);
  else if (state === 'ready') clearNotice();
}

/** Private browsing may forbid it: then nothing is remembered. */
function remember(address: string): void {
  try {
    localStorage.setItem(REMEMBERED, address);
  } catch {
    return;
  }
}

function remembered(): string {
  try {
    return localStorage.getItem(REMEMBERED) ?? '';
  } catch {
    return '';
  }
}

// ── dialling

fill(byId('keys'), type, true);
byId('erase').addEventListener('click', () => {
  target.value = target.value.slice(0, -1);
  target.focus();
});
byId<HTMLFormElement>('dial').addEventListener('submit', (event) => {
  event.preventDefault();
  tones.unlock();
  void dial(target.value);
});

function type(key: string): void {
  tones.unlock();
  tones.key(key);
  target.value += key;
}

async function dial(text: string): Promise<void> {
  if (!line) return;
  clearNotice();
  // The browser may have to ask for the microphone first.
  const button = byId<HTMLButtonElement>('call');
  button.disabled = true;
  try {
    await line.call(parseTarget(text, line.address.domain));
    target.value = '';
  } catch (error) {
    notice(error instanceof Told ? error.message : 'The call could not be placed. Try again.');
  } finally {
    button.disabled = false;
  }
}

// ── calls

function incoming(call: Call): void {
  callChanged(call);
  say(`Incoming call from ${call.who}. Answer and Decline come first on the page.`);
  notify(`${call.who} is calling`);
  // Who is typing is not interrupted.
  if (document.activeElement === document.body) cards.get(call)?.focus('answer');
}

function callChanged(call: Call): void {
  let card = cards.get(call);
  const before = card?.root.dataset.state;
  if (!card) {
    card = new CallCard(call, `This call is in ${where}`, deeds);
    cards.set(call, card);
    byId('calls').prepend(card.root);
    if (!call.incoming) card.focus();
  }
  card.update();
  if (before !== call.state) moved(call, card);
  ring();
}

function moved(call: Call, card: CallCard): void {
  if (call.state === 'talking') say(`Talking with ${call.who}`);
  if (call.state === 'ringing') say(`${call.who} rings`);
  if (call.state !== 'incoming') withdraw();
  if (call.state === 'ended') {
    say(call.why);
    if (call.began === null && !call.incoming && !call.why.startsWith('Call ')) notice(call.why);
    recent.add(call);
    const focused = card.root.contains(document.activeElement);
    setTimeout(() => {
      card.root.remove();
      cards.delete(call);
      arrange();
    }, LINGER);
    if (focused) target.focus();
  }
  arrange();
}

/** One sound at a time, the most pressing one. */
function ring(): void {
  const calls = line?.calls ?? [];
  const coming = calls.some(({ state }) => state === 'incoming');
  const talking = calls.some(({ state, held }) => state === 'talking' && !held);
  const out = calls.some(({ state, earlyMedia }) => state === 'ringing' && !earlyMedia);
  const tone: ToneName | null = coming ? (talking ? 'waiting' : 'ring') : out ? 'ringback' : null;
  tones.play(tone);
}

function arrange(): void {
  const count = cards.size;
  byId('no-calls').hidden = count > 0;
  document.body.classList.toggle('in-call', count > 0);
  document.body.classList.toggle('no-call', count === 0);
  const coming = line?.calls.find(({ state }) => state === 'incoming');
  document.title = coming ? `${coming.who} is calling – Landline` : 'Landline phone';
}

setInterval(() => {
  for (const card of cards.values()) card.tick();
}, 1000);
addEventListener('beforeunload', (event) => {
  if (line?.calls.length) event.preventDefault();
});

addressField.value = remembered();
(addressField.value ? passwordField : addressField).focus();
