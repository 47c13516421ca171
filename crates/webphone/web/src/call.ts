// One call: a SIP session, the sound that goes with it, and what can be done to it.

import type { Notification, Session, URI } from 'sip.js';
import { Inviter, Invitation, RequestPendingError, SessionState, Web } from 'sip.js';
import { Told, shown } from './address';
import type { Devices } from './devices';
import { asAnswered, asHeld } from './hold';
import { type Counted, type Quality, measure } from './quality';
import { refusal } from './words';

/** `ringing`: at the far end; `incoming`: here. */
export type CallState = 'calling' | 'ringing' | 'incoming' | 'answering' | 'talking' | 'ended';

const LOOK_AGAIN = 2000;
/** How long the far end may take to answer a change, in ms. */
const PATIENCE = 15_000;
/** How often a change that crossed one of the other side is offered again. */
const TRIES = 5;

export class Call {
  private static count = 0;
  readonly id = ++Call.count;
  readonly player = new Audio();
  state: CallState;
  /** Who is at the other end, as it is shown. */
  who: string;
  muted = false;
  held = false;
  /** What we say to the other side from now on, before it has agreed. */
  private holding = false;
  /** The other side keeps us waiting. */
  waits = false;
  /** The far end's own ringing tone or announcement can be heard. */
  earlyMedia = false;
  /** A change is under way: nothing else may be asked for. */
  changing = false;
  /** The voice connection is interrupted. */
  broken = false;
  began: number | null = null;
  ended: number | null = null;
  /** It rang here and nobody took it. */
  missed = false;
  /** Why it ended, once it has. */
  why = '';
  quality: Quality | null = null;
  /** Keys pressed so far. */
  keys = '';
  private counted: Counted | null = null;
  private looking: ReturnType<typeof setInterval> | undefined;
  /** An offer of ours is made and not sent yet: one that comes meanwhile waits for it. */
  private making: Promise<void> = Promise.resolve();
  /** One of the other side's is taken and not answered yet: ours waits for it. */
  private answering: Promise<void> = Promise.resolve();

  constructor(
    readonly session: Inviter | Invitation,
    private readonly domain: string,
    private readonly devices: Devices,
    private readonly changed: (call: Call) => void,
  ) {
    this.state = session instanceof Invitation ? 'incoming' : 'calling';
    const { uri, displayName } = session.remoteIdentity;
    const address = shown({ user: uri.user ?? '', domain: uri.host.toLowerCase() }, domain);
    this.who = (displayName && displayName !== uri.user ? displayName : address) || 'Unknown caller';
    this.player.autoplay = true;
    devices.plays(this.player, 'speaker');
    session.stateChange.addListener((state) => this.moved(state));
    session.delegate = {
      onBye: (bye) => {
        this.why = `${this.who} hung up.`;
        void bye.accept();
      },
      onCancel: ({ request }) => {
        // RFC 3326: another phone of ours took it.
        const elsewhere = /cause\s*=\s*200/.test(request.getHeader('Reason') ?? '');
        this.missed = !elsewhere;
        this.why = elsewhere ? 'Answered elsewhere.' : `Missed call from ${this.who}.`;
      },
      onInvite: (request) => this.offered(request.body, request.getHeader('P-Asserted-Identity')),
      onNotify: (notification) => void notification.accept(),
      onSessionDescriptionHandler: (handler) => {
        if (handler instanceof Web.SessionDescriptionHandler) this.follow(handler);
      },
    };
  }

  get incoming(): boolean {
    return this.session instanceof Invitation;
  }

  get connection(): RTCPeerConnection | undefined {
    return this.handler?.peerConnection;
  }

  private get handler(): Web.SessionDescriptionHandler | undefined {
    const handler = this.session.sessionDescriptionHandler;
    return handler instanceof Web.SessionDescriptionHandler ? handler : undefined;
  }

  /** Rings the other side. The microphone is open already. */
  async invite(): Promise<void> {
    if (!(this.session instanceof Inviter)) return;
    await this.session.invite({
      requestDelegate: {
        onProgress: ({ message }) => {
          if (message.statusCode === 180 || message.statusCode === 183) this.state = 'ringing';
          this.earlyMedia ||= Boolean(message.body);
          this.tell();
        },
        onReject: ({ message }) => {
          this.why ||= refusal(message.statusCode ?? 0, this.who);
        },
      },
    });
  }

  /** Takes an incoming call. The microphone is open already. */
  async answer(): Promise<void> {
    if (!(this.session instanceof Invitation) || this.state !== 'incoming') return;
    this.state = 'answering';
    this.tell();
    await this.session.accept();
  }

  /** Declines, gives up or ends it, whichever fits. */
  async hangUp(): Promise<void> {
    const session = this.session;
    switch (session.state) {
      case SessionState.Initial:
      case SessionState.Establishing:
        this.why ||= session instanceof Inviter ? 'Call cancelled.' : 'Call declined.';
        await (session instanceof Inviter ? session.cancel() : session.reject({ statusCode: 603 }));
        break;
      case SessionState.Established:
        this.why ||= 'Call ended.';
        await session.bye();
        break;
      default:
    }
  }

  mute(muted: boolean): void {
    this.muted = muted;
    this.hush();
    this.tell();
  }

  async hold(held: boolean): Promise<void> {
    if (held === this.held || this.state !== 'talking') return;
    await this.alone(async () => {
      try {
        await this.offer(held);
        this.held = held;
      } finally {
        this.hush();
      }
    });
  }

  /** Offers anew: by a new connection to the server, and from a new network. */
  async refresh(): Promise<void> {
    if (this.state !== 'talking') return;
    const state = this.connection?.connectionState;
    await this.alone(() => this.offer(this.held, state !== 'connected'));
  }

  /** Presses a key of the telephone: an RTP event (RFC 4733), or INFO without. */
  press(key: string): void {
    this.keys = (this.keys + key).slice(-32);
    const sender = this.connection?.getSenders().find(({ track }) => track?.kind === 'audio')?.dtmf;
    if (sender?.canInsertDTMF) {
      sender.insertDTMF(sender.toneBuffer + key, 120, 70);
    } else {
      const content = `Signal=${key}\r\nDuration=120\r\n`;
      const body = {
        contentDisposition: 'render',
        contentType: 'application/dtmf-relay',
        content,
      };
      this.session.info({ requestOptions: { body } }).catch(() => undefined);
    }
    this.tell();
  }

  /** Connects the other side with somebody else; ours is over then. */
  async transfer(to: URI | Call): Promise<void> {
    await this.alone(
      () =>
        new Promise((resolve, reject) => {
          const late = setTimeout(() => reject(new Told('The transfer was not answered.')), 60_000);
          const end = (problem?: string) => {
            clearTimeout(late);
            if (problem) reject(new Told(problem));
            else resolve(undefined);
          };
          this.session.stateChange.addListener((state) => {
            if (state === SessionState.Terminated) end();
          });
          const target = to instanceof Call ? (to.session as Session) : to;
          this.session
            .refer(target, {
              onNotify: (notification) => {
                void notification.accept();
                const status = fragment(notification);
                if (status >= 300) end(`The transfer failed: ${refusal(status, 'the other side')}`);
                else if (status >= 200) end();
              },
              requestDelegate: {
                onReject: ({ message }) =>
                  end(`The server does not transfer this call (code ${message.statusCode}).`),
              },
            })
            .catch(() => end('The call cannot be transferred now.'));
        }),
    );
    this.why = 'Call transferred.';
    await this.hangUp();
  }

  /** Has another microphone speak. */
  async useMicrophone(stream: MediaStream): Promise<void> {
    const [track] = stream.getAudioTracks();
    const sender = this.connection?.getSenders().find((sender) => sender.track?.kind === 'audio');
    if (!sender || !track) return;
    sender.track?.stop();
    await sender.replaceTrack(track);
    this.hush();
  }

  private tell(): void {
    this.changed(this);
  }

  /** One change at a time: offers must not cross. */
  private async alone(change: () => Promise<unknown>): Promise<void> {
    if (this.changing) throw new Told('One moment: the last change is still under way.');
    this.changing = true;
    this.tell();
    try {
      await change();
    } finally {
      this.changing = false;
      this.tell();
    }
  }

  private async offer(hold: boolean, iceRestart = false): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const status = await this.offerOnce(hold, iceRestart);
      if (status < 300) return;
      // RFC 3261 §14.1: the owner of the Call-ID waits 2.1 to 4 s, the other up to 2 s.
      if (status !== 491 || attempt === TRIES - 1) {
        throw new Told(`The other side did not accept the change (code ${status}). Try again.`);
      }
      const wait = this.incoming ? Math.random() * 2000 : 2100 + Math.random() * 1900;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  private async offerOnce(hold: boolean, iceRestart: boolean): Promise<number> {
    // What is answered meanwhile says what holds until then.
    await this.answering;
    this.holding = hold;
    this.hush();
    const status = await this.reinvite(iceRestart);
    if (status >= 300) this.holding = this.held;
    return status;
  }

  private async reinvite(iceRestart: boolean): Promise<number> {
    const options: Web.SessionDescriptionHandlerOptions = { offerOptions: { iceRestart } };
    this.session.sessionDescriptionHandlerOptionsReInvite = options;
    // What was answered last is no measure: whom the other side holds would offer
    // to hear alone, and be silent for good.
    for (const transceiver of this.connection?.getTransceivers() ?? []) {
      if (transceiver.direction !== 'stopped') transceiver.direction = 'sendrecv';
    }
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => resolve(408), PATIENCE);
      const end = (status: number) => {
        clearTimeout(late);
        resolve(status);
      };
      const sent = this.session.invite({
        requestDelegate: {
          onAccept: () => end(200),
          onReject: ({ message }) => end(message.statusCode ?? 500),
        },
      });
      this.making = sent.then(
        () => undefined,
        (error: unknown) => this.takeBack(error),
      );
      sent.catch(() => {
        clearTimeout(late);
        const gone = this.session.state !== SessionState.Established;
        // The library lets no two changes cross, and tells of one under way by an error.
        if (gone) reject(new Told('The call could not be changed: it is over.'));
        else void this.making.then(() => resolve(491));
      });
    });
  }

  /** An offer that was made and could not be sent is none: the next would fail upon it. */
  private async takeBack(error: unknown): Promise<void> {
    // The one under way is ours, and was sent.
    if (error instanceof RequestPendingError) return;
    if (this.connection?.signalingState !== 'have-local-offer') return;
    await this.rollBack().catch(() => undefined);
  }

  /** Back to what both sides last agreed to. */
  private async rollBack(): Promise<void> {
    const connection = this.connection;
    if (connection?.signalingState === 'have-local-offer') {
      await connection.setLocalDescription({ type: 'rollback' });
    } else if (connection?.signalingState === 'have-remote-offer') {
      await connection.setRemoteDescription({ type: 'rollback' });
    }
  }

  /** The other side offered anew: perhaps to hold us, perhaps somebody else is there now. */
  private offered(body: string, asserted: string | undefined): void {
    if (body) this.waits = /^a=(?:sendonly|inactive)\s*$/m.test(body);
    const named = asserted && /sips?:([^@>;]+)@([^>;:]+)/i.exec(asserted);
    if (named) this.who = shown({ user: named[1]!, domain: named[2]!.toLowerCase() }, this.domain);
    this.tell();
  }

  /** Nobody hears us while we are muted or hold, nor while we ask to hold. */
  private hush(): void {
    this.handler?.enableSenderTracks(!this.muted && !this.held && !this.holding);
  }

  private follow(handler: Web.SessionDescriptionHandler): void {
    const set = handler.setDescription.bind(handler);
    const get = handler.getDescription.bind(handler);
    let answered = () => {};
    // Our last offer was to hold: an answer to it may come late.
    let offered = false;
    handler.setDescription = async (sdp, ...rest) => {
      await this.making;
      const isAnswer = handler.peerConnection?.signalingState === 'have-local-offer';
      if (!isAnswer) this.answering = new Promise((resolve) => (answered = resolve));
      return set(isAnswer && offered ? asAnswered(sdp) : sdp, ...rest).catch((error: unknown) => {
        answered();
        throw error;
      });
    };
    handler.getDescription = async (...options) => {
      const isOffer = handler.peerConnection?.signalingState === 'stable';
      if (isOffer) offered = this.holding;
      try {
        const made = await get(...options);
        return this.holding ? { ...made, body: asHeld(made.body) } : made;
      } finally {
        answered();
      }
    };
    // The library would do so after a refusal if its handler knew how to: while an
    // offer of ours stands, it takes one of the other side for the answer.
    Object.assign(handler, { rollbackDescription: () => this.rollBack() });
    this.player.srcObject = handler.remoteMediaStream;
    const connection = handler.peerConnection;
    connection?.addEventListener('connectionstatechange', () => {
      const state = connection.connectionState;
      this.broken = state === 'disconnected' || state === 'failed';
      this.tell();
      if (state === 'failed') this.refresh().catch(() => undefined);
    });
  }

  private moved(state: SessionState): void {
    if (state === SessionState.Established) {
      this.state = 'talking';
      this.began = Date.now();
      this.looking = setInterval(() => void this.look(), LOOK_AGAIN);
      this.player.play().catch(() => undefined);
    } else if (state === SessionState.Terminated) {
      // The session ends before its delegates are told why.
      queueMicrotask(() => this.over());
      return;
    }
    this.tell();
  }

  private over(): void {
    if (this.state === 'ended') return;
    this.state = 'ended';
    this.ended = Date.now();
    this.why ||= 'Call ended.';
    clearInterval(this.looking);
    this.devices.forget(this.player);
    this.player.srcObject = null;
    this.tell();
  }

  private async look(): Promise<void> {
    const connection = this.connection;
    if (!connection || this.state !== 'talking') return;
    [this.quality, this.counted] = await measure(connection, this.counted);
    this.tell();
  }
}

/** The status in a NOTIFY's message/sipfrag (RFC 3515 §2.4.5). */
function fragment(notification: Notification): number {
  return Number(/^SIP\/2\.0 (\d{3})/.exec(notification.request.body)?.[1] ?? 0);
}
