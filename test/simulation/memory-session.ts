import { LifeboatError } from '@lifeboat/foundation/errors';
import type { SessionStorage, StoredPack, StoredSession } from '@lifeboat/repository/write/session-files';

/** What lies in an operation's directory, for every process that works over it. */
export class OperationDirectory {
  key: StoredSession | undefined;
  journal: StoredPack[] = [];
  readonly intents = new Map<string, { inputHash: Uint8Array; object: Uint8Array }>();
  readonly claims = new Map<string, string>();
}

/** Session files as the real ones keep them, in memory. */
export function memorySession(directory: OperationDirectory): SessionStorage {
  return {
    readKey: () => Promise.resolve(directory.key),
    writeKey(session) {
      directory.key = session;
      return Promise.resolve();
    },
    async *openJournal() {
      yield* directory.journal;
    },
    append(pack) {
      directory.journal.push(pack);
      return Promise.resolve();
    },
    readIntent: (pointId) => Promise.resolve(directory.intents.get(pointId)),
    writeIntent(pointId, intent) {
      directory.intents.set(pointId, intent);
      return Promise.resolve();
    },
    claimCommit(sessionId, pointId) {
      const claimed = directory.claims.get(sessionId) ?? pointId;
      directory.claims.set(sessionId, claimed);
      if (claimed === pointId) return Promise.resolve();
      return Promise.reject(new LifeboatError('repository.session-unusable', `its session commits ${claimed}`));
    },
    claimNothing(sessionId) {
      const claimed = directory.claims.get(sessionId) ?? '';
      directory.claims.set(sessionId, claimed);
      return Promise.resolve(claimed === '');
    },
    close: () => Promise.resolve(),
    remove() {
      directory.journal = [];
      directory.key = undefined;
      return Promise.resolve();
    },
  };
}
