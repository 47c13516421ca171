// The microphone, the speaker and the device that rings.

import { Told } from './address';
import { microphone } from './words';

export type Role = 'microphone' | 'speaker' | 'ring';

/** An audio element whose device can be chosen, where the browser lets one. */
type Player = HTMLAudioElement & { setSinkId?: (id: string) => Promise<void> };

export class Devices extends EventTarget {
  /** Device ids; the empty one is whatever the system prefers. Never stored. */
  private readonly chosen: Record<Role, string> = { microphone: '', speaker: '', ring: '' };
  private readonly players = new Map<Player, 'speaker' | 'ring'>();

  constructor() {
    super();
    navigator.mediaDevices?.addEventListener('devicechange', () => this.changed());
  }

  static get canChooseOutput(): boolean {
    return 'setSinkId' in HTMLMediaElement.prototype;
  }

  choice(role: Role): string {
    return this.chosen[role];
  }

  choose(role: Role, id: string): void {
    this.chosen[role] = id;
    for (const [player, of] of this.players) if (of === role) void this.route(player, id);
    this.dispatchEvent(new CustomEvent('chosen', { detail: role }));
  }

  /** What there is for a role, and whether the browser tells the names already. */
  async list(role: Role): Promise<{ devices: MediaDeviceInfo[]; named: boolean }> {
    const kind = role === 'microphone' ? 'audioinput' : 'audiooutput';
    const all = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    const devices = all.filter((device) => device.kind === kind && device.deviceId !== 'default');
    return { devices, named: devices.some((device) => device.label !== '') };
  }

  /** The chosen microphone, opened. */
  async microphone(): Promise<MediaStream> {
    if (!navigator.mediaDevices) {
      throw new Told('This browser gives pages no microphone. Open the page by its https address.');
    }
    const id = this.chosen.microphone;
    const audio: MediaTrackConstraints = {
      echoCancellation: true,
      noiseSuppression: true,
      autoGainControl: true,
      ...(id ? { deviceId: { exact: id } } : {}),
    };
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio });
      // Names are told once the microphone was allowed.
      this.changed();
      return stream;
    } catch (error) {
      throw new Told(microphone(error));
    }
  }

  /** Has what plays in `player` come out of the device of this role. */
  plays(player: HTMLAudioElement, role: 'speaker' | 'ring'): void {
    this.players.set(player, role);
    void this.route(player, this.chosen[role]);
  }

  forget(player: HTMLAudioElement): void {
    this.players.delete(player);
  }

  private async route(player: Player, id: string): Promise<void> {
    try {
      await player.setSinkId?.(id);
    } catch {
      // It was unplugged meanwhile: sound comes from where the system puts it.
      this.dispatchEvent(new Event('lost'));
    }
  }

  private changed(): void {
    this.dispatchEvent(new Event('changed'));
  }
}
