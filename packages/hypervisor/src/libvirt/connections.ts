/** The connections one hypervisor uses: a shared one for calls, opened again after the daemon restarted, and own ones. */
import { LibvirtConnection, type OpenOptions } from '@lifeboat/libvirt/connection';

export class Connections {
  readonly #options: OpenOptions;
  #shared: Promise<LibvirtConnection> | undefined;

  constructor(options: OpenOptions) {
    this.#options = options;
  }

  /** For calls that bind nothing to the connection. */
  shared(): Promise<LibvirtConnection> {
    if (this.#shared) return this.#shared;
    const opening = LibvirtConnection.open(this.#options);
    this.#shared = opening;
    const forget = (): void => {
      if (this.#shared === opening) this.#shared = undefined;
    };
    // A lost connection, or one that never opened, is replaced at the next call, not before.
    opening.then(async (connection) => connection.closed.then(forget), forget).catch(forget);
    return opening;
  }

  /** For a machine that must end with its connection, and for streams. The caller closes it. */
  own(options: { signal?: AbortSignal } = {}): Promise<LibvirtConnection> {
    return LibvirtConnection.open({ ...this.#options, ...options });
  }

  async close(): Promise<void> {
    const shared = this.#shared;
    this.#shared = undefined;
    const connection = await shared?.catch(() => undefined);
    await connection?.close();
  }
}
