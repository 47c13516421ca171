// Which devices are used, and whether calls are shown as notifications.

import { Devices, type Role } from './devices';
import { byId, write } from './dom';
import type { Tones } from './tones';

const NAMES: Record<Role, string> = {
  microphone: 'Microphone',
  speaker: 'Speaker',
  ring: 'Speaker',
};
const ROLES: Role[] = ['microphone', 'speaker', 'ring'];

export class Settings {
  private readonly dialog = byId<HTMLDialogElement>('settings');

  constructor(
    private readonly devices: Devices,
    private readonly tones: Tones,
  ) {
    byId('open-settings').addEventListener('click', () => this.open());
    byId('allow').addEventListener('click', () => void this.allow());
    byId('try-ring').addEventListener('click', () => this.tryRing());
    byId('notify').addEventListener('click', () => void this.askToNotify());
    devices.addEventListener('changed', () => this.dialog.open && void this.fill());
    for (const role of ROLES) {
      const select = byId<HTMLSelectElement>(role);
      select.addEventListener('change', () => devices.choose(role, select.value));
    }
  }

  private open(): void {
    write(byId('settings-problem'), '');
    void this.fill();
    this.dialog.showModal();
  }

  private async fill(): Promise<void> {
    let named = true;
    for (const role of ROLES) {
      const { devices, named: known } = await this.devices.list(role);
      if (role === 'microphone') named = known;
      const select = byId<HTMLSelectElement>(role);
      const usual = new Option('As the system has it', '');
      const options = devices.map(
        ({ deviceId, label }, index) => new Option(label || `${NAMES[role]} ${index + 1}`, deviceId),
      );
      select.replaceChildren(usual, ...options.filter(({ value }) => value !== ''));
      select.value = this.devices.choice(role);
      if (select.selectedIndex < 0) select.value = '';
      select.disabled = role !== 'microphone' && !Devices.canChooseOutput;
    }
    byId('settings-names').hidden = named;
    byId('settings-outputs').hidden = Devices.canChooseOutput;
    const offered = 'Notification' in window;
    const granted = offered && Notification.permission === 'granted';
    const button = byId<HTMLButtonElement>('notify');
    button.hidden = !offered;
    button.disabled = granted;
    write(button, granted ? 'Incoming calls are shown as notifications' : 'Show incoming calls as notifications');
  }

  private async allow(): Promise<void> {
    try {
      const stream = await this.devices.microphone();
      stream.getTracks().forEach((track) => track.stop());
      write(byId('settings-problem'), '');
    } catch (error) {
      write(byId('settings-problem'), (error as Error).message);
    }
    await this.fill();
    byId('microphone').focus();
  }

  private tryRing(): void {
    this.tones.unlock();
    this.tones.play('ring');
    setTimeout(() => this.tones.play(null), 1500);
  }

  private async askToNotify(): Promise<void> {
    const answer = await Notification.requestPermission();
    const problem = 'The browser does not let this page show notifications. Click the symbol left of the address to allow them.';
    write(byId('settings-problem'), answer === 'granted' ? '' : problem);
    await this.fill();
  }
}
