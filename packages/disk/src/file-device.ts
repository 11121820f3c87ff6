import { constants, open, readFile, realpath, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { assertWithin, type Extent, type WritableBlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';

/** /sys/class/block/<name>/size counts in these, whatever the disk's own sector size. */
const SYSFS_SECTOR_BYTES = 512;
const ZERO_PIECE_BYTES = 1024 * 1024;
/** Linux moves at most 2^31 - 4096 bytes in one call; Node refuses more than 2^31 - 1. */
const MAX_TRANSFER_BYTES = 1024 * 1024 * 1024;

interface CallOptions {
  signal?: AbortSignal;
}

/**
 * A raw image file or a block device as a disk. Its size is taken once, at the opening; it is never grown.
 *
 * Says one `data` run for all of it: Node has no SEEK_DATA. Writes real zeros for the same reason (no fallocate), so a
 * target stays sparse only where nobody writes zeros; whoever made a fresh sparse file knows where that is safe.
 *
 * Errors: `device.read-failed`, or `device.write-failed` for a writable one, when the path cannot be opened.
 */
export async function openFileDevice(
  devicePath: string,
  options: { writable?: boolean } = {},
): Promise<WritableBlockDevice> {
  const writable = options.writable ?? false;
  let handle: FileHandle;
  try {
    handle = await open(devicePath, writable ? constants.O_RDWR : constants.O_RDONLY);
  } catch (cause) {
    const code = writable ? 'device.write-failed' : 'device.read-failed';
    throw failure(code, `cannot open ${devicePath}`, cause, devicePath);
  }
  try {
    return new FileDevice({ handle, devicePath, writable, sizeBytes: await sizeOf(handle, devicePath) });
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** As `openFileDevice`, over what is open already: whatever the path names by now. Closing it leaves the handle open. */
export function fileDeviceOver(opened: {
  readonly handle: FileHandle;
  readonly devicePath: string;
  readonly sizeBytes: number;
}): WritableBlockDevice {
  const device = new FileDevice({ ...opened, writable: true });
  device.close = async () => {};
  return device;
}

class FileDevice implements WritableBlockDevice {
  readonly sizeBytes: number;
  readonly #handle: FileHandle;
  readonly #path: string;
  readonly #writable: boolean;
  #lastWrite: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(opened: { handle: FileHandle; devicePath: string; writable: boolean; sizeBytes: number }) {
    this.#handle = opened.handle;
    this.#path = opened.devicePath;
    this.#writable = opened.writable;
    this.sizeBytes = opened.sizeBytes;
  }

  async read(offsetBytes: number, target: Uint8Array, options: CallOptions = {}): Promise<void> {
    assertWithin(this.sizeBytes, { offsetBytes, lengthBytes: target.length }, `read of ${this.#path}`);
    for (let done = 0; done < target.length;) {
      options.signal?.throwIfAborted();
      const length = Math.min(MAX_TRANSFER_BYTES, target.length - done);
      const position = offsetBytes + done;
      let bytesRead: number;
      try {
        ({ bytesRead } = await this.#handle.read(target, done, length, position));
      } catch (cause) {
        throw failure(
          'device.read-failed',
          `read of ${length} bytes at ${position} of ${this.#path}`,
          cause,
          this.#path,
        );
      }
      if (bytesRead === 0) {
        const message = `${this.#path} ends at ${position}; it had ${this.sizeBytes} bytes when it was opened`;
        throw new LifeboatError('device.read-failed', message, { context: { path: this.#path } });
      }
      done += bytesRead;
    }
  }

  async extents(range: { offsetBytes: number; lengthBytes: number }): Promise<Extent[]> {
    assertWithin(this.sizeBytes, range, `extents of ${this.#path}`);
    return range.lengthBytes === 0 ? [] : [{ ...range, kind: 'data' }];
  }

  async write(offsetBytes: number, bytes: Uint8Array, options: CallOptions = {}): Promise<void> {
    assertWithin(this.sizeBytes, { offsetBytes, lengthBytes: bytes.length }, `write to ${this.#path}`);
    this.#assertWritable();
    const endTurn = await this.#turnToWrite();
    try {
      for (let done = 0; done < bytes.length;) {
        options.signal?.throwIfAborted();
        const length = Math.min(MAX_TRANSFER_BYTES, bytes.length - done);
        const position = offsetBytes + done;
        try {
          done += (await this.#handle.write(bytes, done, length, position)).bytesWritten;
        } catch (cause) {
          throw this.#writeFailure(`write of ${length} bytes at ${position} of ${this.#path}`, cause);
        }
      }
    } finally {
      endTurn();
    }
  }

  async writeZeros(offsetBytes: number, lengthBytes: number, options: CallOptions = {}): Promise<void> {
    assertWithin(this.sizeBytes, { offsetBytes, lengthBytes }, `zeros to ${this.#path}`);
    this.#assertWritable();
    const zeros = Buffer.alloc(Math.min(lengthBytes, ZERO_PIECE_BYTES));
    for (let done = 0; done < lengthBytes; done += zeros.length) {
      await this.write(offsetBytes + done, zeros.subarray(0, Math.min(zeros.length, lengthBytes - done)), options);
    }
  }

  async flush(): Promise<void> {
    if (!this.#writable) return;
    try {
      await this.#handle.datasync();
    } catch (cause) {
      throw this.#writeFailure(`flush of ${this.#path}`, cause);
    }
  }

  async close(): Promise<void> {
    await (this.#closing ??= this.#handle.close());
  }

  /**
   * One write at a time: the kernel lets no more into a file, and threads that wait for it spin on processors that others could use.
   */
  async #turnToWrite(): Promise<() => void> {
    const before = this.#lastWrite;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#lastWrite = promise;
    await before;
    return resolve;
  }

  #assertWritable(): void {
    if (this.#writable) return;
    throw new LifeboatError('device.write-failed', `${this.#path} was opened for reading only`, {
      context: { path: this.#path },
    });
  }

  #writeFailure(what: string, cause: unknown): LifeboatError {
    return failure(systemCode(cause) === 'ENOSPC' ? 'disk.full' : 'device.write-failed', what, cause, this.#path);
  }
}

async function sizeOf(handle: FileHandle, devicePath: string): Promise<number> {
  const stat = await handle.stat();
  if (stat.isFile()) return stat.size;
  if (!stat.isBlockDevice()) {
    throw new LifeboatError('device.read-failed', `${devicePath} is neither a file nor a block device`, {
      context: { path: devicePath },
    });
  }
  // stat says 0 for a block device. The kernel's name may hide behind links such as /dev/disk/by-id.
  const sizePath = path.join('/sys/class/block', path.basename(await realpath(devicePath)), 'size');
  try {
    const sectors = Number.parseInt(await readFile(sizePath, 'utf8'), 10);
    if (!Number.isSafeInteger(sectors)) throw new Error(`${sizePath} holds no number`);
    return sectors * SYSFS_SECTOR_BYTES;
  } catch (cause) {
    throw failure('device.read-failed', `the size of ${devicePath} is unknown`, cause, devicePath);
  }
}

function failure(
  code: 'device.read-failed' | 'device.write-failed' | 'disk.full',
  what: string,
  cause: unknown,
  devicePath: string,
): LifeboatError {
  return new LifeboatError(code, `${what}: ${messageOf(cause)}`, { cause, context: { path: devicePath } });
}
