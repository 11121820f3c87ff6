/**
 * What a session keeps in the operation's directory, so that it survives kill -9 at any moment:
 *
 * - `session.key` (0600): session id and key. Written before the first pack, removed when the session closes.
 * - `session.journal`: one record per data pack that is durable in the store.
 * - `point-<id>`: the exact bytes of a point, written before they are sent, so that a repeated commit sends the same.
 *
 * Order: a pack is durable in the store ─► its record is appended ─► fdatasync ─► it counts as known. A record cut off by a crash
 * is dropped when the journal is opened; the pack it meant is stored again.
 */
import { constants } from 'node:fs';
import { link, mkdir, open, readFile, rename, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { hasCode, LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { parseSessionId, type MachineId, type PointId, type SessionId } from '@lifeboat/foundation/ids';

import { fromColumns, placesSchema, toColumns, type BlobRef } from '../format/blob-ref.ts';
import { decodeFrame, encodeFrame, sha256 } from '../format/frame.ts';
import { MAX_PACK_BYTES, MAX_PACK_ENTRIES, MAX_PAGE_ENTRIES, MAX_POINT_BYTES } from '../format/limits.ts';
import { hashBytes, packNameOf, type PackName } from '../format/names.ts';
import { bytes, list, message, text, uint } from '../format/wire.ts';
import type { SessionKey } from '../seal/keyring.ts';

const keySchema = message({
  tenantId: bytes(1, { length: 16 }),
  machineId: text(2, 64),
  sessionId: text(3, 64),
  key: bytes(4, { length: 32 }),
  epoch: uint(5, 0xffff_ffff),
  sealed: bytes(6, { length: 80 }),
});

const journalHeadSchema = message({
  tenantId: bytes(1, { length: 16 }),
  machineId: text(2, 64),
});

const packRecordSchema = message({
  pack: bytes(1, { length: 32 }),
  sizeBytes: uint(2, MAX_PACK_BYTES),
  blobs: list(3, placesSchema, Math.ceil(MAX_PACK_ENTRIES / MAX_PAGE_ENTRIES)),
});

const intentSchema = message({
  /** SHA-256 of what the caller asked to be committed. */
  inputHash: bytes(1, { length: 32 }),
  object: bytes(2, { max: MAX_POINT_BYTES }),
});

/** Frame around each record: 18 bytes in front, 32 behind. */
const FRAME_HEAD_BYTES = 18;
const FRAME_BYTES = FRAME_HEAD_BYTES + 32;
/** A pack of most blobs takes 50 bytes for each. */
const MAX_RECORD_FRAME_BYTES = 2 * MiB;

/** In the place of a point's id: the session was abandoned. */
const NO_POINT = 'none';

export interface StoredSession {
  readonly sessionId: SessionId;
  readonly key: SessionKey;
}

export interface StoredPack {
  readonly pack: PackName;
  readonly sizeBytes: number;
  readonly blobs: readonly BlobRef[];
}

/** The files as a session uses them, so that a simulation can keep them in memory across its crashes. */
export type SessionStorage = Pick<
  SessionFiles,
  | 'readKey'
  | 'writeKey'
  | 'openJournal'
  | 'append'
  | 'readIntent'
  | 'writeIntent'
  | 'claimCommit'
  | 'claimNothing'
  | 'close'
  | 'remove'
>;

export class SessionFiles {
  readonly #directory: string;
  readonly #tenantId: Uint8Array;
  readonly #machineId: MachineId;
  #journal: FileHandle | undefined;

  constructor(input: { directory: string; tenantId: Uint8Array; machineId: MachineId }) {
    this.#directory = input.directory;
    this.#tenantId = input.tenantId;
    this.#machineId = input.machineId;
  }

  /** The session whose key lies here; undefined when there is none. Throws `repository.session-unusable` for a stranger's. */
  async readKey(): Promise<StoredSession | undefined> {
    const object = await this.#readOptional('session.key');
    if (!object) return undefined;
    const stored = this.#decoding('session.key', () =>
      keySchema.decode(decodeFrame('SKEY', object, 'session.key'), 'session.key'),
    );
    this.#assertOurs('session.key', stored);
    const { key, epoch, sealed } = stored;
    return { sessionId: parseSessionId(stored.sessionId), key: { key, epoch, sealed } };
  }

  async writeKey(session: StoredSession): Promise<void> {
    const body = keySchema.encode({
      tenantId: this.#tenantId,
      machineId: this.#machineId,
      sessionId: session.sessionId,
      ...session.key,
    });
    await this.#replace('session.key', encodeFrame('SKEY', body));
  }

  /**
   * What is in the journal, a record at a time. Read to its end it is open for appending, and a record cut off there is removed; before
   * that nothing may be appended.
   */
  async *openJournal(): AsyncGenerator<StoredPack> {
    const name = 'session.journal';
    const journal = await this.#writing(name, () =>
      open(join(this.#directory, name), constants.O_RDWR | constants.O_CREAT, 0o600),
    );
    try {
      let endBytes = 0;
      for await (const frame of wholeFrames(journal)) {
        const body = this.#decoding(name, () => decodeFrame('JRNL', frame, name));
        if (endBytes > 0) yield this.#decoding(name, () => decodePackRecord(body, name));
        else
          this.#assertOurs(
            name,
            this.#decoding(name, () => journalHeadSchema.decode(body, name)),
          );
        endBytes += frame.length;
      }
      await this.#writing(name, async () => {
        await journal.truncate(endBytes);
        if (endBytes === 0) {
          const body = journalHeadSchema.encode({ tenantId: this.#tenantId, machineId: this.#machineId });
          await journal.write(encodeFrame('JRNL', body), 0, undefined, 0);
        }
        await journal.sync();
        await this.#syncDirectory();
      });
      this.#end = (await journal.stat()).size;
      this.#journal = journal;
    } finally {
      if (this.#journal !== journal) await journal.close();
    }
  }

  #end = 0;
  #appending: Promise<void> = Promise.resolve();

  /** Appends one record, durably. Calls queue up. */
  append({ pack, sizeBytes, blobs }: StoredPack): Promise<void> {
    const groups = [];
    for (let i = 0; i < blobs.length; i += MAX_PAGE_ENTRIES)
      groups.push(toColumns(blobs.slice(i, i + MAX_PAGE_ENTRIES)));
    const record = encodeFrame('JRNL', packRecordSchema.encode({ pack: hashBytes(pack), sizeBytes, blobs: groups }));
    const next = this.#appending.then(() =>
      this.#writing('session.journal', async () => {
        if (!this.#journal) throw new LifeboatError('internal.bug', 'the journal of a closed session was written');
        // One write at a known end: a short write before a full disk is overwritten by the next attempt.
        const { bytesWritten } = await this.#journal.write(record, 0, record.length, this.#end);
        if (bytesWritten !== record.length) throw Object.assign(new Error('short write'), { code: 'ENOSPC' });
        await this.#journal.datasync();
        this.#end += record.length;
      }),
    );
    // A failure is reported to this caller; the next one starts from the same end.
    this.#appending = next.catch(() => undefined);
    return next;
  }

  async readIntent(pointId: PointId): Promise<{ inputHash: Uint8Array; object: Uint8Array } | undefined> {
    const name = `point-${pointId}`;
    const object = await this.#readOptional(name);
    return object && this.#decoding(name, () => intentSchema.decode(decodeFrame('JRNL', object, name), name));
  }

  async writeIntent(pointId: PointId, intent: { inputHash: Uint8Array; object: Uint8Array }): Promise<void> {
    await this.#replace(`point-${pointId}`, encodeFrame('JRNL', intentSchema.encode(intent)));
  }

  /**
   * A session commits one point. Two processes over one directory (a worker that was held to be dead, and the one after it) must
   * not commit two: whoever comes first decides the name. Throws `repository.session-unusable` for another one.
   */
  async claimCommit(sessionId: SessionId, pointId: PointId): Promise<void> {
    const claimed = await this.#claim(sessionId, pointId);
    if (claimed === NO_POINT) throw this.#unusable(`commit-${sessionId}`, 'its session was abandoned');
    if (claimed !== pointId)
      throw this.#unusable(`commit-${sessionId}`, `its session commits ${claimed}, not ${pointId}`);
  }

  /** From now on the session commits nothing. False: a commit was begun before. */
  async claimNothing(sessionId: SessionId): Promise<boolean> {
    return (await this.#claim(sessionId, NO_POINT)) === NO_POINT;
  }

  /** What the session may commit: what was claimed first. */
  async #claim(sessionId: SessionId, wanted: string): Promise<string | undefined> {
    const name = `commit-${sessionId}`;
    await this.#writing(name, async () => {
      const temporary = join(this.#directory, `${name}-${wanted}.new`);
      await writeFile(temporary, wanted, { mode: 0o600, flush: true });
      try {
        await link(temporary, join(this.#directory, name));
      } catch (error) {
        if (systemCode(error) !== 'EEXIST') throw error;
      }
      await rm(temporary, { force: true });
      await this.#syncDirectory();
    });
    return (await this.#readOptional(name))?.toString('utf8');
  }

  /** Closes the journal's descriptor; the files stay. */
  async close(): Promise<void> {
    await this.#appending;
    await this.#journal?.close();
    this.#journal = undefined;
  }

  /** Removes key and journal: the session is over. Intents stay until the operation's directory goes. */
  async remove(): Promise<void> {
    await this.close();
    for (const name of ['session.journal', 'session.key']) await rm(join(this.#directory, name), { force: true });
    await this.#syncDirectory();
  }

  async #readOptional(name: string): Promise<Buffer | undefined> {
    try {
      return await readFile(join(this.#directory, name));
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw this.#unusable(name, messageOf(error), error);
    }
  }

  /** Temporary file, fsync, rename, fsync of the directory: the old content or the new one, never a part. */
  async #replace(name: string, content: Uint8Array): Promise<void> {
    await this.#writing(name, async () => {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      const temporary = join(this.#directory, `${name}.new`);
      const file = await open(temporary, 'w', 0o600);
      try {
        await file.writeFile(content);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, join(this.#directory, name));
      await this.#syncDirectory();
    });
  }

  async #syncDirectory(): Promise<void> {
    const directory = await open(this.#directory, 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }

  async #writing<T>(name: string, action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      const code = systemCode(error);
      const path = join(this.#directory, name);
      if (code === 'ENOSPC' || code === 'EDQUOT') {
        throw new LifeboatError('disk.full', `could not write ${path}: ${messageOf(error)}`, {
          context: { path },
          cause: error,
        });
      }
      throw error;
    }
  }

  #decoding<T>(name: string, action: () => T): T {
    try {
      return action();
    } catch (error) {
      if (!hasCode(error, 'repository.object-damaged')) throw error;
      throw this.#unusable(name, error.message, error);
    }
  }

  #assertOurs(name: string, owner: { tenantId: Uint8Array; machineId: string }): void {
    if (Buffer.compare(owner.tenantId, this.#tenantId) !== 0)
      throw this.#unusable(name, 'it belongs to another repository or tenant');
    if (owner.machineId !== this.#machineId) {
      throw this.#unusable(name, `it belongs to machine ${owner.machineId}, not ${this.#machineId}`);
    }
  }

  #unusable(name: string, why: string, cause?: unknown): LifeboatError {
    const path = join(this.#directory, name);
    return new LifeboatError('repository.session-unusable', `${path}: ${why}`, { context: { path }, cause });
  }
}

function decodePackRecord(record: Uint8Array, what: string): StoredPack {
  const { pack, sizeBytes, blobs } = packRecordSchema.decode(record, what);
  const name = packNameOf(pack);
  return {
    pack: name,
    sizeBytes,
    blobs: blobs.flatMap((group) => fromColumns(group, undefined, what)).filter((place) => typeof place !== 'string'),
  };
}

/** The frames that are whole, from the start. A journal of 100 TiB has gigabytes: one frame is in memory at a time. */
async function* wholeFrames(file: FileHandle): AsyncGenerator<Buffer> {
  for (let at = 0; ;) {
    const head = await readWhole(file, at, FRAME_HEAD_BYTES);
    if (!head) return;
    const length = FRAME_BYTES + head.readUInt32BE(FRAME_HEAD_BYTES - 4);
    const frame = length > MAX_RECORD_FRAME_BYTES ? undefined : await readWhole(file, at, length);
    if (!frame || !sha256(frame.subarray(0, length - 32)).equals(frame.subarray(-32))) return;
    yield frame;
    at += length;
  }
}

/** Undefined when the file ends before. */
async function readWhole(file: FileHandle, offsetBytes: number, lengthBytes: number): Promise<Buffer | undefined> {
  const target = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes;) {
    const { bytesRead } = await file.read(target, at, lengthBytes - at, offsetBytes + at);
    if (bytesRead === 0) return undefined;
    at += bytesRead;
  }
  return target;
}
