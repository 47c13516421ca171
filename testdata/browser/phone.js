// A softphone in a page: JsSIP over a WebSocket, a tone for a microphone, a
// spectrum for an ear. Tells the test what happens, and does what it is told.
'use strict';

const options = Object.fromEntries(new URLSearchParams(location.search));

function report(event, details = {}) {
  const body = JSON.stringify({ event, ...details });
  fetch('/report', { method: 'POST', body });
}

addEventListener('error', ({ message }) => report('error', { message }));
addEventListener('unhandledrejection', ({ reason }) => report('error', { message: `${reason}` }));

const audio = new AudioContext({ sampleRate: 48000 });

function microphone() {
  const tone = new OscillatorNode(audio, { frequency: Number(options.tone) });
  const quieter = new GainNode(audio, { gain: 0.4 });
  const stream = new MediaStreamAudioDestinationNode(audio);
  tone.connect(quieter).connect(stream);
  tone.start();
  return stream.stream;
}

/** Reports the strongest frequency of a remote track until it ends. */
function listen(stream) {
  // Chromium decodes a remote track only where something plays it.
  const player = new Audio();
  player.srcObject = stream;
  player.muted = true;
  player.play();
  const ear = new AnalyserNode(audio, { fftSize: 16384, smoothingTimeConstant: 0 });
  audio.createMediaStreamSource(stream).connect(ear);
  const levels = new Float32Array(ear.frequencyBinCount);
  const timer = setInterval(() => {
    ear.getFloatFrequencyData(levels);
    const strongest = levels.indexOf(Math.max(...levels));
    report('hears', {
      hz: (strongest * audio.sampleRate) / ear.fftSize,
      decibels: Math.max(levels[strongest], -200),
    });
  }, 250);
  return () => clearInterval(timer);
}

const JsSIP = load('/node_modules/jssip/lib/JsSIP.js');
const phone = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(options.server)],
  uri: `sip:${options.user}@${options.domain}`,
  password: options.password,
});
const media = { mediaStream: microphone(), pcConfig: { iceServers: [] } };
let call = null;

phone.on('registered', () => report('registered'));
phone.on('registrationFailed', ({ cause }) => report('registration failed', { cause }));
phone.on('disconnected', ({ reason, code }) => report('disconnected', { reason, code }));
phone.on('newRTCSession', ({ session, originator }) => {
  call = session;
  let stop = () => {};
  const end = (event) => (details) => {
    stop();
    report(event, { originator: details.originator, cause: details.cause });
  };
  session.on('peerconnection', ({ peerconnection }) => follow(peerconnection));
  // An outgoing call has its connection already.
  if (session.connection) follow(session.connection);
  function follow(connection) {
    connection.addEventListener('track', ({ track }) => {
      stop = listen(new MediaStream([track]));
    });
    connection.addEventListener('connectionstatechange', () =>
      report('media', { state: connection.connectionState }),
    );
  }
  session.on('progress', () => report('progress'));
  session.on('confirmed', () => report('established'));
  session.on('ended', end('ended'));
  session.on('failed', end('failed'));
  if (originator === 'remote') session.answer(media);
});

const does = {
  dial: ({ target }) => phone.call(target, media),
  'hang up': () => call.terminate(),
  // Done when the other side has answered the new offer.
  hold: () => call.hold({}, () => report('held')),
  keys: ({ keys }) => {
    const [{ dtmf }] = call.connection.getSenders();
    // A change to no tone at all: the last one is over.
    dtmf.addEventListener('tonechange', ({ tone }) => tone === '' && report('pressed'));
    call.sendDTMF(keys, { transportType: JsSIP.C.DTMF_TRANSPORT.RFC2833 });
  },
  reload: () => location.reload(),
  resume: () => call.unhold({}, () => report('resumed')),
  update: () => call.renegotiate({ useUpdate: true }, () => report('updated')),
};
new EventSource('/commands').onmessage = ({ data }) => {
  const command = JSON.parse(data);
  does[command.do](command);
};

phone.start();
