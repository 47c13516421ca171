// Run by crates/webphone/tests/units.rs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Told, parseAddress, parseTarget, shown } from '../src/address';
import { wav } from '../src/greeting';
import { asAnswered, asHeld } from '../src/hold';
import { mos } from '../src/quality';
import { told, waiting } from '../src/summary';
import { duration, microphone, refusal, registration } from '../src/words';

test('an address is a name and a domain', () => {
  assert.deepEqual(parseAddress(' sip:alice@ACME.example '), { user: 'alice', domain: 'acme.example' });
  assert.deepEqual(parseAddress('+353155501234@a'), { user: '+353155501234', domain: 'a' });
  for (const bad of ['', 'alice', '@a', 'alice@', 'al ice@a', 'alice@a b', 'a@b@', 'alice@-a.example', 'alice@a..b']) {
    assert.throws(() => parseAddress(bad), Told, bad);
  }
});

test('what is dialled is a number, a name or an address', () => {
  const target = (text: string) => parseTarget(text, 'acme.test');
  assert.deepEqual(target('bob'), { user: 'bob', domain: 'acme.test' });
  assert.deepEqual(target('+353 (1) 555-0123'), { user: '+35315550123', domain: 'acme.test' });
  assert.deepEqual(target('tel:112'), { user: '112', domain: 'acme.test' });
  assert.deepEqual(target('*21#'), { user: '*21%23', domain: 'acme.test' });
  assert.deepEqual(target('eve@globex.test'), { user: 'eve', domain: 'globex.test' });
  for (const bad of ['', '  ', 'two words', 'a@', '<script>']) assert.throws(() => target(bad), Told, bad);
});

test('an address of our own domain is shown by its name', () => {
  assert.equal(shown({ user: 'bob', domain: 'acme.test' }, 'acme.test'), 'bob');
  assert.equal(shown({ user: 'eve', domain: 'globex.test' }, 'acme.test'), 'eve@globex.test');
  assert.equal(shown({ user: '*21%23', domain: 'a' }, 'a'), '*21#');
  assert.equal(shown({ user: '100%', domain: 'a' }, 'a'), '100%');
});

test('the score is the one that relays reckon with, and delay costs', () => {
  // As in crates/media/src/quality.rs.
  assert.equal(mos('PCMU', 0, 0, 0).toFixed(2), '4.41');
  const [one, five, half] = [mos('PCMU', 1, 0, 0), mos('PCMU', 5, 0, 0), mos('PCMU', 50, 0, 0)];
  assert.ok(4.41 > one && one > five && five > half && half >= 1);
  assert.ok(mos('opus', 0, 80, 0) < mos('opus', 0, 5, 0));
  assert.ok(mos('opus', 0, 0, 600) < mos('opus', 0, 0, 100) - 0.3);
});

test('the other side is told of a hold and the browser is not', () => {
  const made = (direction: string) => `v=0\r\nm=audio 9 RTP/AVP 0\r\na=${direction}\r\na=sendrecv-not\r\n`;
  assert.equal(asHeld(made('sendrecv')), made('sendonly'));
  assert.equal(asHeld(made('recvonly')), made('inactive'));
  assert.equal(asHeld(made('inactive')), made('inactive'));
  assert.equal(asAnswered(made('recvonly')), made('sendrecv'));
  assert.equal(asAnswered(made('inactive')), made('sendrecv'));
  for (const kept of ['sendrecv', 'sendonly']) assert.equal(asAnswered(made(kept)), made(kept));
});

test('every refusal says something to do or to know', () => {
  for (let status = 300; status < 700; status++) {
    for (const words of [refusal(status, 'bob'), registration(status, 'a@b')]) {
      assert.match(words, /^[A-Za-z].*\.$/);
    }
  }
  assert.match(refusal(486, 'bob'), /busy/);
  assert.match(microphone(new DOMException('', 'NotAllowedError')), /allow the microphone/);
});

test('time is told as clocks do', () => {
  assert.deepEqual([5, 65, 3665].map(duration), ['0:05', '1:05', '1:01:05']);
});

test('what waits is told as the server says it', () => {
  const body = (line: string) => `Messages-Waiting: yes\r\nMessage-Account: sip:a@b\r\n${line}\r\n`;
  assert.deepEqual(waiting(body('Voice-Message: 2/8 (0/2)')), { fresh: 2, heard: 8 });
  assert.deepEqual(waiting(body('voice-message:0/1')), { fresh: 0, heard: 1 });
  assert.equal(waiting(body('Fax-Message: 1/0')), null);
  assert.deepEqual([0, 1, 2].map(told), ['No new messages', '1 new message', '2 new messages']);
});

test('a greeting is a WAV file of one channel', async () => {
  const octets = new DataView(await wav(Float32Array.of(0, 1, -2), 48_000).arrayBuffer());
  assert.equal(octets.byteLength, 50);
  assert.deepEqual([octets.getUint16(22, true), octets.getUint32(24, true)], [1, 48_000]);
  assert.deepEqual([0, 2, 4].map((at) => octets.getInt16(44 + at, true)), [0, 32_767, -32_767]);
});
