// A softphone in a page: JsSIP over a WebSocket, a tone for a microphone, a
// spectrum for an ear; a colour for a camera, and an eye for it. Tells the test what happens, and does what it is told.
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

/** A picture of one colour, large enough for packets of full length. */
function camera(colour) {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [640, 480];
  const context = canvas.getContext('2d');
  setInterval(() => {
    context.fillStyle = colour;
    context.fillRect(0, 0, canvas.width, canvas.height);
    // What changes has to be sent.
    for (let n = 0; n < 400; n += 1) {
      context.fillStyle = n % 2 ? 'black' : 'white';
      context.fillRect(Math.random() * 640, Math.random() * 100, 4, 4);
    }
  }, 50);
  return canvas.captureStream(20);
}

/** Reports the colour at the middle of a remote picture until it ends. */
function watch(stream) {
  const player = document.createElement('video');
  Object.assign(player, { srcObject: stream, muted: true, playsInline: true });
  player.play();
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const timer = setInterval(() => {
    const { videoWidth: width, videoHeight: height } = player;
    if (width === 0) return;
    context.drawImage(player, width / 2, height * 0.75, 1, 1, 0, 0, 1, 1);
    const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
    report('sees', { red, green, blue, width, height });
  }, 250);
  return () => clearInterval(timer);
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
const stream = microphone();
if (options.colour) stream.addTrack(camera(options.colour).getVideoTracks()[0]);
const media = {
  mediaStream: stream,
  mediaConstraints: { audio: true, video: Boolean(options.colour) },
  pcConfig: { iceServers: [] },
};
let call = null;

phone.on('registered', () => report('registered'));
phone.on('registrationFailed', ({ cause }) => report('registration failed', { cause }));
phone.on('disconnected', ({ reason, code }) => report('disconnected', { reason, code }));
phone.on('newRTCSession', ({ session, originator }) => {
  call = session;
  const stops = [];
  const end = (event) => (details) => {
    stops.forEach((stop) => stop());
    report(event, { originator: details.originator, cause: details.cause });
  };
  session.on('peerconnection', ({ peerconnection }) => follow(peerconnection));
  // An outgoing call has its connection already.
  if (session.connection) follow(session.connection);
  function follow(connection) {
    connection.addEventListener('track', ({ track }) => {
      const heard = new MediaStream([track]);
      stops.push(track.kind === 'video' ? watch(heard) : listen(heard));
    });
    connection.addEventListener('connectionstatechange', () =>
      report('media', { state: connection.connectionState }),
    );
  }
  session.on('sdp', (description) => {
    if (description.originator !== 'remote') return;
    report('described', { sdp: description.sdp });
    // As where the network lets no UDP out.
    if (options.only === 'tcp') {
      description.sdp = description.sdp.replace(/^a=candidate:\S+ \d+ UDP .*\r\n/gim, '');
    }
  });
  // Trickles: does not wait for the rest of its candidates.
  if (options.early) session.on('icecandidate', ({ ready }) => ready());
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
  // From another address on, as after a change of network.
  restart: () => call.renegotiate({ rtcOfferConstraints: { iceRestart: true } }, () => report('restarted')),
  statistics: async () => {
    const all = [...(await call.connection.getStats()).values()];
    const transport = all.find(({ type }) => type === 'transport');
    const pair = all.find(({ id }) => id === transport.selectedCandidatePairId);
    const candidate = all.find(({ id }) => id === pair.localCandidateId);
    const of = (type, kind) => all.find((it) => it.type === type && it.kind === kind) ?? {};
    report('statistics', {
      protocol: candidate.protocol,
      port: candidate.port,
      far: all.find(({ id }) => id === pair.remoteCandidateId).port,
      tls: transport.tlsVersion,
      sound: of('inbound-rtp', 'audio'),
      video: of('inbound-rtp', 'video'),
      sent: of('outbound-rtp', 'video'),
    });
  },
  update: () => call.renegotiate({ useUpdate: true }, () => report('updated')),
};
new EventSource('/commands').onmessage = ({ data }) => {
  const command = JSON.parse(data);
  does[command.do](command);
};

phone.start();
