// A signed-in address: the connection to the edge, the registration, the calls.

import type { Transport } from 'sip.js/lib/api/transport';
import {
  Invitation,
  Inviter,
  Registerer,
  RegistererState,
  Subscriber,
  URI,
  UserAgent,
  Web,
} from 'sip.js';
import { type Address, Told } from './address';
import { Call } from './call';
import type { Devices } from './devices';
import type { Place } from './place';
import { type Waiting, waiting } from './summary';
import { registration } from './words';

export type LineState = 'connecting' | 'ready' | 'reconnecting' | 'ended';

export interface Hooks {
  /** The connection changed; a text where a person should know why. */
  line(state: LineState, why?: string): void;
  incoming(call: Call): void;
  call(call: Call): void;
  /** So many messages are in the mailbox. */
  waiting(waiting: Waiting): void;
}

/** Calls at one time; one more is told that we are busy. */
const MOST_CALLS = 4;
/** The registration lasts so long, in seconds: a page that is closed is soon forgotten. */
const EXPIRES = 300;
/** A connection without traffic is kept open through NATs and proxies. */
const KEEP_ALIVE = 25;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 20_000;
/** How long a server may take to answer before the connection counts as dead. */
const PATIENCE = 8000;

export class Line {
  readonly calls: Call[] = [];
  state: LineState = 'connecting';
  private agent: UserAgent;
  /** Tells of the mailbox, by this connection. */
  private watcher: Subscriber | null = null;
  private registerer: Registerer;
  private edge = 0;
  private pause = FIRST_PAUSE;
  private retry: ReturnType<typeof setTimeout> | undefined;
  /** The microphone that the next session speaks with. */
  private prepared: MediaStream | null = null;

  constructor(
    readonly address: Address,
    private readonly password: string,
    readonly place: Place,
    private readonly devices: Devices,
    private readonly hooks: Hooks,
  ) {
    [this.agent, this.registerer] = this.open();
    devices.addEventListener('chosen', this.deviceChosen);
    addEventListener('online', this.networkChanged);
  }

  /** Connects and registers; the first edge that answers is taken. */
  async signIn(): Promise<void> {
    for (;;) {
      try {
        await this.agent.start();
        break;
      } catch {
        await this.agent.stop().catch(() => undefined);
        if (++this.edge >= this.place.edge.wss.length) {
          this.leave();
          throw new Told(
            'The phone server cannot be reached. Check your connection and try again; if it stays so, tell your administrator.',
          );
        }
        [this.agent, this.registerer] = this.open();
      }
    }
    const status = await this.register();
    if (status >= 300) {
      await this.agent.stop().catch(() => undefined);
      this.leave();
      throw new Told(registration(status, `${this.address.user}@${this.address.domain}`));
    }
    this.move('ready');
  }

  /** Hears of messages that wait (RFC 3842), from now on. */
  watch(): void {
    // One over a connection that is gone hears nothing more; the server forgets it.
    this.watcher?.dispose().catch(() => undefined);
    const { user, domain } = this.address;
    const watcher = new Subscriber(this.agent, new URI('sip', user, domain), 'message-summary', {
      expires: EXPIRES,
      extraHeaders: ['Accept: application/simple-message-summary'],
    });
    watcher.delegate = {
      onNotify: (notification) => {
        void notification.accept();
        const told = waiting(notification.request.body);
        if (told && watcher === this.watcher) this.hooks.waiting(told);
      },
    };
    this.watcher = watcher;
    watcher.subscribe().catch(() => undefined);
  }

  async signOut(): Promise<void> {
    this.leave();
    this.watcher?.dispose().catch(() => undefined);
    this.watcher = null;
    await Promise.allSettled(this.calls.map((call) => call.hangUp()));
    if (this.registerer.state === RegistererState.Registered) {
      const gone = new Promise<void>((resolve) => {
        this.registerer.stateChange.addListener(() => resolve());
        setTimeout(resolve, 2000);
      });
      await this.registerer.unregister().catch(() => undefined);
      await gone;
    }
    await this.agent.stop().catch(() => undefined);
  }

  /** Calls, with every other call on hold. */
  async call(target: Address): Promise<Call> {
    if (this.state !== 'ready') {
      throw new Told('The phone is not connected just now. Wait until it is, and call again.');
    }
    if (this.calls.length >= MOST_CALLS) {
      throw new Told(`There are ${MOST_CALLS} calls already. End one of them first.`);
    }
    const microphone = await this.devices.microphone();
    await this.holdOthers(null);
    const uri = new URI('sip', target.user, target.domain);
    this.prepared = microphone;
    const inviter = new Inviter(this.agent, uri, { earlyMedia: true });
    const call = this.add(inviter);
    this.hooks.call(call);
    await call.invite().catch(() => {
      call.why ||= 'The call could not be placed. Try again.';
    });
    return call;
  }

  async answer(call: Call): Promise<void> {
    const microphone = await this.devices.microphone();
    if (call.state !== 'incoming') {
      microphone.getTracks().forEach((track) => track.stop());
      return;
    }
    await this.holdOthers(call);
    this.prepared = microphone;
    await call.answer();
  }

  /** Takes a call back, with every other call on hold. */
  async resume(call: Call): Promise<void> {
    await this.holdOthers(call);
    await call.hold(false);
  }

  uri(target: Address): URI {
    return new URI('sip', target.user, target.domain);
  }

  private async holdOthers(but: Call | null): Promise<void> {
    const others = this.calls.filter((call) => call !== but && call.state === 'talking');
    await Promise.all(others.map((call) => call.hold(true)));
  }

  private open(): [UserAgent, Registerer] {
    const { user, domain } = this.address;
    const agent = new UserAgent({
      uri: new URI('sip', user, domain),
      authorizationUsername: user,
      authorizationPassword: this.password,
      userAgentString: 'Landline web phone',
      transportOptions: {
        server: this.place.edge.wss[this.edge],
        connectionTimeout: PATIENCE / 1000,
        keepAliveInterval: KEEP_ALIVE,
        traceSip: false,
      },
      // Reconnecting is done here, where it is known what is to come after.
      reconnectionAttempts: 0,
      gracefulShutdown: false,
      logBuiltinEnabled: false,
      noAnswerTimeout: 120,
      sessionDescriptionHandlerFactory: Web.defaultSessionDescriptionHandlerFactory(() =>
        this.microphone(),
      ),
      sessionDescriptionHandlerFactoryOptions: {
        iceGatheringTimeout: 500,
        // The server's own candidates are enough (ICE-lite), and nobody else is asked.
        peerConnectionConfiguration: { iceServers: [], bundlePolicy: 'max-bundle' },
      },
    });
    agent.delegate = {
      onInvite: (invitation) => this.rung(invitation),
      onDisconnect: (error) => error && this.dropped(agent),
    };
    const registerer = new Registerer(agent, { expires: EXPIRES, refreshFrequency: 80 });
    registerer.stateChange.addListener((state) => {
      // A refresh that was refused; one that we asked for is looked at where we did.
      if (state === RegistererState.Unregistered && this.state === 'ready') this.dropped(agent);
    });
    return [agent, registerer];
  }

  private microphone(): Promise<MediaStream> {
    const prepared = this.prepared;
    this.prepared = null;
    return prepared ? Promise.resolve(prepared) : this.devices.microphone();
  }

  /** The final status; 408 where none came. */
  private register(): Promise<number> {
    return new Promise((resolve) => {
      const late = setTimeout(() => resolve(408), PATIENCE);
      const end = (status: number) => {
        clearTimeout(late);
        resolve(status);
      };
      this.registerer
        .register({
          requestDelegate: {
            onAccept: () => end(200),
            onRedirect: () => end(302),
            onReject: ({ message }) => end(message.statusCode ?? 500),
          },
        })
        .catch(() => end(408));
    });
  }

  private rung(invitation: Invitation): void {
    if (this.calls.length >= MOST_CALLS) {
      void invitation.reject({ statusCode: 486 });
      return;
    }
    const call = this.add(invitation);
    this.hooks.incoming(call);
  }

  private add(session: Inviter | Invitation): Call {
    const call = new Call(session, this.address.domain, this.devices, (changed) => {
      const at = this.calls.indexOf(changed);
      if (changed.state === 'ended' && at >= 0) this.calls.splice(at, 1);
      this.hooks.call(changed);
    });
    this.calls.push(call);
    return call;
  }

  /** The connection is gone. Calls go on by their media; we come back. */
  private dropped(agent: UserAgent): void {
    if (agent !== this.agent || this.state === 'ended' || this.state === 'connecting') return;
    this.move('reconnecting', 'The connection to the server is lost. Reconnecting…');
    clearTimeout(this.retry);
    this.retry = setTimeout(() => void this.reconnect(), this.pause * (0.75 + Math.random() / 2));
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
  }

  private async reconnect(): Promise<void> {
    const agent = this.agent;
    try {
      if (!agent.isConnected()) await agent.reconnect();
    } catch {
      if (this.calls.length === 0 && this.place.edge.wss.length > 1) await this.otherEdge();
      return this.dropped(this.agent);
    }
    if (this.state !== 'reconnecting' || agent !== this.agent) return;
    const status = await this.register();
    if (this.state !== 'reconnecting') return;
    if (status === 401 || status === 403 || status === 407) {
      this.leave();
      return this.move('ended', registration(status, `${this.address.user}@${this.address.domain}`));
    }
    if (status >= 300) {
      if (status === 408) await agent.transport.disconnect().catch(() => undefined);
      return this.dropped(agent);
    }
    this.pause = FIRST_PAUSE;
    this.move('ready');
    this.watch();
    // The far end's requests come by the new connection once it is known there.
    for (const call of this.calls) call.refresh().catch(() => undefined);
  }

  private async otherEdge(): Promise<void> {
    const former = this.agent;
    this.edge = (this.edge + 1) % this.place.edge.wss.length;
    [this.agent, this.registerer] = this.open();
    await former.stop().catch(() => undefined);
    await this.agent.start().catch(() => undefined);
  }

  /** Back from no network, or in another: the old connection may be dead and not know it. */
  private readonly networkChanged = (): void => {
    if (this.state === 'reconnecting') {
      clearTimeout(this.retry);
      void this.reconnect();
    } else if (this.state === 'ready') {
      const transport: Transport = this.agent.transport;
      void this.register().then((status) => {
        if (status === 408) void transport.disconnect().catch(() => undefined).then(() => this.dropped(this.agent));
        else for (const call of this.calls) if (call.broken) call.refresh().catch(() => undefined);
      });
    }
  };

  private readonly deviceChosen = (event: Event): void => {
    if ((event as CustomEvent).detail !== 'microphone') return;
    for (const call of this.calls.filter(({ connection }) => connection)) {
      this.devices.microphone().then(
        (stream) => call.useMicrophone(stream),
        (error: Error) => this.hooks.line(this.state, error.message),
      );
    }
  };

  private move(state: LineState, why?: string): void {
    this.state = state;
    this.hooks.line(state, why);
  }

  private leave(): void {
    this.state = 'ended';
    clearTimeout(this.retry);
    this.devices.removeEventListener('chosen', this.deviceChosen);
    removeEventListener('online', this.networkChanged);
  }
}
