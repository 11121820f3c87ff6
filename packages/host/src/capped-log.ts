import { closeSync, openSync, renameSync, writeSync } from 'node:fs';
import { messageOf } from '@lifeboat/foundation/errors';

/** What a child printed last, for the message that says why it ended. */
const TAIL_BYTES = 2048;

/**
 * The output of one child in a file that cannot fill the disk: at half the limit the file becomes `<path>.1`, so the
 * newest half is always there and at most `limitBytes` are kept.
 */
export class CappedLog {
  readonly path: string;
  readonly #halfBytes: number;
  #descriptor: number;
  #sizeBytes = 0;
  #tail: Buffer = Buffer.alloc(0);
  #failed = false;

  constructor(path: string, limitBytes: number) {
    this.path = path;
    this.#halfBytes = Math.max(1, Math.floor(limitBytes / 2));
    this.#descriptor = openSync(path, 'w', 0o600);
  }

  /** Never throws: a full disk costs log lines, not the child; the tail then says so. */
  write(bytes: Buffer): void {
    this.#keepTail(bytes);
    if (this.#failed) return;
    try {
      this.#append(bytes);
    } catch (error) {
      this.#failed = true;
      this.#keepTail(Buffer.from(`\n[log ${this.path} ends here: ${messageOf(error)}]\n`));
    }
  }

  #append(bytes: Buffer): void {
    for (let offset = 0; offset < bytes.length;) {
      if (this.#sizeBytes >= this.#halfBytes) this.#rotate();
      const length = Math.min(bytes.length - offset, this.#halfBytes - this.#sizeBytes);
      const written = writeSync(this.#descriptor, bytes, offset, length);
      offset += written;
      this.#sizeBytes += written;
    }
  }

  /** The last lines, as text. */
  tail(): string {
    return this.#tail.toString('utf8').trim();
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #keepTail(bytes: Buffer): void {
    this.#tail = Buffer.concat([this.#tail, bytes]).subarray(-TAIL_BYTES);
  }

  #rotate(): void {
    closeSync(this.#descriptor);
    renameSync(this.path, `${this.path}.1`);
    this.#descriptor = openSync(this.path, 'w', 0o600);
    this.#sizeBytes = 0;
  }
}
