/**
 * A whole backup as a process of its own, which kills itself:
 * `backup-child.ts <store> <operation directory> <disk> <point> <kill at bytes>`.
 *
 * Up to the disk's size the kill comes when that much was read; beyond it, so many store writes after the last chunk: in the
 * middle of pages, index, point or closing record.
 */
import { statSync } from 'node:fs';

import { parsePointId } from '@lifeboat/foundation/ids';

import { openRepository } from '../repository.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { threadSealer } from '../write/thread-sealer.ts';
import { fileSource } from './file-source.ts';
import { MACHINE, PASSPHRASE, TINY_LIMITS } from './tiny.ts';

const [storePath = '', directory = '', disk = '', point = '', killAt = ''] = process.argv.slice(2);
const sizeBytes = statSync(disk).size;
const killAtBytes = Number(killAt);
/** 20 % of the disk's size beyond its end stand for the writes of a commit: two page packs, index, point, closing record. */
const WRITES_OF_A_COMMIT = 6;
let doneBytes = 0;
let writesLeft = Math.floor(((killAtBytes - sizeBytes) / (sizeBytes * 0.2)) * WRITES_OF_A_COMMIT);

function die(): void {
  process.kill(process.pid, 'SIGKILL');
}

const store = new (class extends DirectoryStore {
  override async putIfAbsent(
    name: string,
    parts: readonly Uint8Array[],
    options?: StoreOptions,
  ): Promise<'created' | 'exists'> {
    const outcome = await super.putIfAbsent(name, parts, options);
    if (doneBytes >= sizeBytes && killAtBytes >= sizeBytes && writesLeft-- <= 0) die();
    return outcome;
  }
})(storePath);

const repository = await openRepository({
  store,
  secret: { passphrase: PASSPHRASE },
  deps: { sealer: threadSealer({ threads: 2 }), writerLimits: TINY_LIMITS },
});
const session = await repository.beginSession({ machineId: MACHINE, directory });
const { root } = await session.writeDisk(
  { name: 'vda', sizeBytes, source: fileSource(disk), changed: 'all' },
  {
    signal: new AbortController().signal,
    progress: (progress) => {
      doneBytes = progress.doneBytes;
      if (doneBytes > killAtBytes) die();
    },
  },
);
await session.commit({ pointId: parsePointId(point), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
await repository.close();
