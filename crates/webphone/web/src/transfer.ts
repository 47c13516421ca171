// Handing a call on: at once, after talking first, or to the other call.

import { Told, parseTarget } from './address';
import type { Call } from './call';
import { byId, element, write } from './dom';
import type { Line } from './line';

export class Transfer {
  private readonly dialog = byId<HTMLDialogElement>('transfer');
  private readonly target = byId<HTMLInputElement>('transfer-target');
  private call: Call | null = null;

  constructor(
    private readonly line: () => Line | null,
    private readonly done: (text: string) => void,
  ) {
    byId('transfer-close').addEventListener('click', () => this.dialog.close());
    byId('transfer-ask').addEventListener('click', () => void this.askFirst());
    this.dialog.querySelector('form')?.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.now();
    });
  }

  open(call: Call): void {
    this.call = call;
    this.target.value = '';
    write(byId('transfer-problem'), '');
    write(byId('transfer-title'), `Transfer ${call.who}`);
    const others = this.line()?.calls.filter((other) => other !== call && other.state === 'talking');
    const buttons = (others ?? []).map((other) => {
      const button = element('button', 'main-button', `Connect with ${other.who}`);
      button.type = 'button';
      button.addEventListener('click', () => void this.hand(other, other.who));
      return button;
    });
    byId('transfer-calls').replaceChildren(...buttons);
    this.dialog.showModal();
    if (buttons.length === 0) this.target.focus();
  }

  private async now(): Promise<void> {
    const line = this.line();
    if (!line) return;
    try {
      const target = parseTarget(this.target.value, line.address.domain);
      await this.hand(line.uri(target), this.target.value.trim());
    } catch (error) {
      this.problem(error);
    }
  }

  private async hand(to: Parameters<Call['transfer']>[0], who: string): Promise<void> {
    const call = this.call;
    if (!call) return;
    this.busy(true);
    try {
      await call.transfer(to);
      this.dialog.close();
      this.done(`${call.who} is connected with ${who}.`);
    } catch (error) {
      this.problem(error);
    } finally {
      this.busy(false);
    }
  }

  /** A second call; the first waits on hold until it is handed over. */
  private async askFirst(): Promise<void> {
    const line = this.line();
    const call = this.call;
    if (!line || !call) return;
    try {
      await line.call(parseTarget(this.target.value, line.address.domain));
      this.dialog.close();
      this.done(`${call.who} waits. When you have talked, choose Transfer on either call.`);
    } catch (error) {
      this.problem(error);
    }
  }

  private busy(busy: boolean): void {
    for (const button of this.dialog.querySelectorAll('button')) button.disabled = busy;
  }

  private problem(error: unknown): void {
    const text = error instanceof Told ? error.message : 'The transfer did not work. Try again.';
    write(byId('transfer-problem'), text);
  }
}
